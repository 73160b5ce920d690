"""Valid things by default, so that a test states only what it is about. Specs are written as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dawg_orchestrator.planning.facts import JobFact, PoolFact, RunFacts
from dawg_orchestrator.planning.graph import Graph, expand
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.workflow import content_of
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import AttemptRef
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import ReportSummary, TaskResult
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.testrun import TestCounts, TestRunSpec
from dawg_orchestrator.resources.verdict import Verdict
from dawg_orchestrator.resources.workflow import WorkflowSpec

JsonObject = dict[str, Any]

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1)  # since when the leader serves
NAMESPACE = "team"


def after(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


# Declared things


def a_task_spec(name: str = "unit", **fields: Any) -> JsonObject:
    """A task as in YAML; ``run: 'true'`` unless it has a command."""
    what = {} if "command" in fields or "uses" in fields else {"run": "true"}
    return {"name": name, "image": "example.org/test:1", **what, **fields}


def a_task(name: str = "unit", **fields: Any) -> Task:
    """A task."""
    return Task.model_validate(a_task_spec(name, **fields))


def a_spec(*tasks: JsonObject, **fields: Any) -> TestRunSpec:
    """A run's spec, of one task unless others are given."""
    return TestRunSpec.model_validate({"tasks": list(tasks) or [a_task_spec()], **fields})


def a_graph(*tasks: JsonObject, **fields: Any) -> Graph:
    """The expansion of such a spec."""
    return expand(a_spec(*tasks, **fields))


def a_workflow(*tasks: JsonObject, **fields: Any) -> WorkflowSpec:
    """A Workflow's spec, of one task unless others are given."""
    return WorkflowSpec.model_validate({"tasks": list(tasks) or [a_task_spec()], **fields})


def a_step(name: str, uses: str, with_: JsonObject | None = None, **fields: Any) -> JsonObject:
    """A built-in step as in YAML."""
    return {"name": name, "uses": uses, **({"with": with_} if with_ is not None else {}), **fields}


def a_pool(**fields: Any) -> AgentPoolSpec:
    """A pool's spec."""
    return AgentPoolSpec.model_validate(fields)


# How far tasks have come


def waiting() -> TaskState:
    """Not started."""
    return TaskState()


def running(attempt: int = 1, **fields: Any) -> TaskState:
    """Under way since noon, its test too."""
    known = {"agent": "agent-1", "job": f"job-0-{attempt}", "granted_at": NOON, "started_at": NOON}
    return TaskState(attempt=attempt, running=True, reason=Reason.RUNNING, **(known | fields))


def ended(verdict: Verdict = Verdict.PASSED, reason: Reason | None = None, **fields: Any) -> TaskState:
    """Has its verdict."""
    usual = {
        Verdict.PASSED: Reason.TESTS_PASSED, Verdict.FLAKY: Reason.FLAKY, Verdict.FAILED: Reason.TESTS_FAILED,
        Verdict.TIMED_OUT: Reason.TIMEOUT, Verdict.INFRA_ERROR: Reason.EVICTED, Verdict.CANCELLED: Reason.CANCELLED,
        Verdict.SKIPPED: Reason.NEED_NOT_PASSED,
    }  # fmt: skip
    known = {"attempt": 1, "job": "job-0-1", "ended_at": NOON, "exit_code": 0, "log_stored": True}
    return TaskState(verdict=verdict, reason=reason or usual[verdict], **(known | fields))


def a_job_fact(index: int = 0, attempt: int = 1, *, deleting: bool = False) -> JobFact:
    """A Job of the run."""
    return JobFact(f"job-{index}-{attempt}", f"job-uid-{index}-{attempt}", index, attempt, deleting)


def a_run(*tasks: JsonObject, spec: Mapping[str, Any] | None = None, **fields: Any) -> RunFacts:
    """Facts of a run created at noon; its tasks wait, its pool exists."""
    parsed = a_spec(*tasks, **(spec or {}))
    return _facts(parsed, expand(parsed), fields)


def a_run_of(workflow: WorkflowSpec, spec: Mapping[str, Any] | None = None, **fields: Any) -> RunFacts:
    """Facts of such a run of a Workflow whose content it has."""
    asked = TestRunSpec.model_validate({"workflowRef": {"name": "w"}, **(spec or {})})
    content = content_of(asked, workflow)
    return _facts(content.spec, expand(content.spec, content.shape), {"workflow": "w", **fields})


def _facts(parsed: TestRunSpec, graph: Graph, fields: Mapping[str, Any]) -> RunFacts:
    pool = PoolFact(a_pool(), Reason.WAITING_FOR_AGENT, "all slots are taken")
    pools = dict.fromkeys({parsed.pool, *(cell.task.pool or parsed.pool for cell in graph.cells)}, pool)
    known: dict[str, Any] = {
        "namespace": NAMESPACE, "name": "run", "uid": "run-uid", "generation": 1, "created": NOON, "term": 1,
        "spec": parsed, "graph": graph, "invalid": None, "states": (waiting(),) * len(graph.cells), "jobs": {},
        "leased": frozenset(), "pools": pools, "serving_since": LONG_AGO,
    }  # fmt: skip
    return RunFacts(**(known | fields))


# What agents report


def counts(passed: int = 0, failed: int = 0, flaky: int = 0, skipped: int = 0) -> TestCounts:
    """Single tests."""
    total = passed + failed + flaky + skipped
    return TestCounts(total=total, passed=passed, failed=failed, flaky=flaky, skipped=skipped)


def a_summary(tests: TestCounts | None = None, **fields: Any) -> ReportSummary:
    """What a sidecar found."""
    return ReportSummary(files=1, tests=tests, stored=True, **fields)


def a_result(exit_code: int | None = 0, **fields: Any) -> TaskResult:
    """The end of an attempt that ran from noon to a second later."""
    known = {"started_at": NOON, "ended_at": after(1), "log_stored": True}
    return TaskResult(exit_code=exit_code, **(known | fields))


def an_attempt(run_uid: str = "uid-run", index: int = 0, attempt: int = 1, run: str = "run") -> AttemptRef:
    """One attempt."""
    return AttemptRef(namespace=NAMESPACE, run=run, run_uid=run_uid, index=index, attempt=attempt)


# Objects as the cluster has them


def run_object(
    name: str = "run", *tasks: JsonObject, uid: str | None = None, version: int = 1, status: JsonObject | None = None,
    created: datetime = NOON, **spec: Any,
) -> JsonObject:  # fmt: skip
    """A TestRun."""
    return {
        "metadata": {
            "namespace": NAMESPACE, "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version),
            "generation": 1, "creationTimestamp": format_time(created),
        },
        "spec": {"tasks": list(tasks) or [a_task_spec()], **spec},
        "status": status or {},
    }  # fmt: skip


def pool_object(name: str = "default", version: int = 1, uid: str | None = None, **spec: Any) -> JsonObject:
    """An AgentPool."""
    return {
        "metadata": {
            "namespace": NAMESPACE,
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
        },
        "spec": spec,
        "status": {},
    }


def job_object(
    run_uid: str = "uid-run", index: int = 0, attempt: int = 1, *, deleting: bool = False, uid: str | None = None
) -> JsonObject:
    """The Job of an attempt."""
    metadata: JsonObject = {
        "namespace": NAMESPACE, "name": f"job-{index}-{attempt}", "uid": uid or f"{run_uid}-{index}-{attempt}",
        "labels": {names.RUN: run_uid, names.INDEX: str(index), names.ATTEMPT: str(attempt)},
        "ownerReferences": [{"uid": run_uid, "controller": True}],
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = format_time(NOON)
    return {"metadata": metadata}


def pod_object(
    name: str = "agent-1", pool: str = "default", *, phase: str = "Running", template: str = "t1"
) -> JsonObject:
    """An agent's pod, ready."""
    return {
        "metadata": {
            "namespace": NAMESPACE, "name": name, "uid": f"uid-{name}", "creationTimestamp": format_time(NOON),
            "labels": {names.POOL: pool, names.TEMPLATE: template},
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip
