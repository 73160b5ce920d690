"""How long the leader thinks about one look at a run of a thousand tasks, in several shapes; needs no cluster.

Every task has a condition, and one of them is a step. What is timed is the plan alone: what a look writes, another part
measures. Each shape is looked at many times, and the first look, which compiles the conditions, does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.figures import Figure, Part, percentile
from dawg_orchestrator.planning.facts import PoolFact, RunFacts
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.verdict import Verdict

TASKS = 1000
LOOKS = 40
_GOAL_MS = 50
_NEEDS = 10
_NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
_PASSED = TaskState(attempt=1, verdict=Verdict.PASSED, reason=Reason.TESTS_PASSED, ended_at=_NOON, exit_code=0)

Tasks = list[dict[str, Any]]


def shapes() -> dict[str, RunFacts]:
    """By name: what is known of a run."""
    return {
        "chain": _run(_needing(lambda n: range(max(0, n - _NEEDS), n)), TASKS // 2),
        "layers": _run(_needing(lambda n: _layer(n // 20 - 1)), TASKS // 2),
        "fan": _run(_needing(lambda n: range(_NEEDS) if n >= _NEEDS else ()), _NEEDS),
    }


def measure(tell: Callable[[str], None]) -> Part:
    """Look at each shape many times."""
    samples: dict[str, list[float]] = {}
    for name, facts in shapes().items():
        tell(name)
        plan_testrun(facts, _NOON)
        samples[name] = [_milliseconds(facts) for _ in range(LOOKS)]
    return Part([_figure(name, times) for name, times in samples.items()], samples)


def _milliseconds(facts: RunFacts) -> float:
    began = time.process_time()  # what else the machine does meanwhile does not count
    plan_testrun(facts, _NOON)
    return 1000 * (time.process_time() - began)


def _figure(name: str, times: Sequence[float]) -> Figure:
    median, low, high = (percentile(times, share) for share in (0.5, 0.05, 0.95))
    told = f"{median:.1f} ({low:.1f} to {high:.1f})"
    return Figure(
        f"plan.{name}", f"a look at {TASKS:,} tasks, {name} (ms)", told, "", median, told, f"< {_GOAL_MS}"
    )  # fmt: skip


def _layer(number: int) -> Sequence[int]:
    return range(20 * number, 20 * number + _NEEDS) if number >= 0 else ()


def _needing(needs: Callable[[int], Sequence[int]]) -> Tasks:
    """Tasks with conditions that are all different; the last is a gate over the first."""
    tasks: Tasks = []
    for n in range(TASKS - 1):
        before = list(needs(n))
        condition = f"params.n != '{n}'" + (f" && tasks['t{before[0]}'].verdict == 'Passed'" if before else "")
        tasks.append({"name": f"t{n}", "run": "true", "needs": [f"t{need}" for need in before], "when": condition})
    return [*tasks, {"name": "gate", "uses": "gate", "needs": ["t0"], "when": "params.n == 'x'"}]


def _run(tasks: Tasks, passed: int) -> RunFacts:
    """A run in which the first tasks have passed and the others wait."""
    spec = TestRunSpec.model_validate({"tasks": tasks, "parameters": {"n": "x"}})
    pool = PoolFact(AgentPoolSpec(), Reason.WAITING_FOR_AGENT, "all slots are taken")
    return RunFacts(
        namespace="bench", name="run", uid="uid", generation=1, created=_NOON, term=1, spec=spec, graph=expand(spec),
        invalid=None, states=(*(_PASSED,) * passed, *(TaskState(),) * (TASKS - passed)), jobs={}, leased=frozenset(),
        pools={spec.pool: pool}, serving_since=_NOON - timedelta(days=1), started_at=_NOON,
    )  # fmt: skip
