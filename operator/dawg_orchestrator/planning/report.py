"""A run's status from the states of its tasks: small, derived anew each time, the same facts giving the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from dawg_orchestrator.planning.gate import HARMLESS_SKIPS, Deciding, MergeDecision, decide_merge
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.overriding import CONDITION, Override, Ruling, overruled, rule, set_ruling
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.publishing import GateStand, gate_status
from dawg_orchestrator.resources.conditions import Condition, read_conditions, set_condition
from dawg_orchestrator.resources.model import format_duration, format_time
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.testrun import (
    MAX_TASK_ENTRIES,
    MAX_TOP_FAILURES,
    MOST_COUNTED,
    NO_TESTS,
    OUTPUTS_PER_RUN,
    STATUS_BUDGET,
    TestCounts,
    TopFailure,
)
from dawg_orchestrator.resources.verdict import GREEN, LEFT_OUT_LETTER, NO_VERDICT_LETTER, Verdict

_ENTRY_MESSAGE = 300
_FAILURE_MESSAGE = 500
_HEADROOM = 8 * 1024  # for the fields that are added when the status is written

JsonObject = dict[str, Any]


class Waiting(NamedTuple):
    """Why a task waits, and what would change it."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What a status is made of."""

    term: int
    generation: int
    created: datetime
    cells: Sequence[Cell]
    states: Sequence[TaskState]
    priority: str
    written: Mapping[str, Any]
    verdict: Verdict | None
    why: tuple[Reason, str] | None  # overrides the tasks' own reasons: the run could not be carried out
    started_at: datetime | None
    commit: str | None = None
    waiting: Mapping[int, Waiting] = field(default_factory=dict)
    base_counts: TestCounts = NO_TESTS
    base_failures: tuple[TopFailure, ...] = ()
    outputs: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    on_flaky: Literal["Allow", "Block"] = "Allow"
    workflow_revision: str | None = None
    rerun_of: str | None = None
    gate: GateStand | None = None
    risk: Mapping[str, Any] | None = None
    override: Override | None = None


def report_status(facts: ReportFacts, now: datetime) -> JsonObject:
    """The whole status as it should stand; fields that are not there should not be there."""
    decision = _decide(facts)
    ruling = _ruling(facts, decision)
    decision = overruled(facts.override, decision, ruling)
    running = any(state.running for state in facts.states)
    begun = facts.started_at is not None or any(state.attempt for state in facts.states)
    status: JsonObject = {
        "term": facts.term,
        "observedGeneration": facts.generation,
        "phase": "Finished" if facts.verdict else ("Running" if begun else "Queued"),
        "mergeBlocked": not decision.allowed,
        "progress": f"{sum(state.done for state in facts.states)}/{len(facts.states)}",
        "conditions": [condition.wire() for condition in _conditions(facts, decision, ruling, running, now)],
        "gate": _gate(facts, decision),
        "taskVerdicts": "".join(_letter(state) for state in facts.states),
    }
    _add_times(status, facts, now)
    _add_tests(status, facts)
    if facts.commit:
        status["source"] = {"commit": facts.commit}
    if facts.verdict is None and not running:
        status["queue"] = _queue(facts)
    if facts.workflow_revision is not None:
        status["workflowRevision"] = facts.workflow_revision
    if facts.rerun_of is not None:
        status["rerunOf"] = facts.rerun_of
    if facts.risk is not None:
        status["risk"] = dict(facts.risk)
    outputs = _outputs(facts)
    if outputs:
        status["outputs"] = outputs
    missed = (facts.written.get("results") or {}).get("stored") is False  # of a task that has no entry any more
    status["results"] = {"stored": not missed and all(state.stored for state in facts.states)}
    status["tasks"] = _entries(facts)
    return fit(status)


def _gate(facts: ReportFacts, decision: MergeDecision) -> JsonObject:
    if facts.gate is None:
        return {"state": "NotGated"}
    return gate_status(facts.gate, decision, finished=facts.verdict is not None)


def _ruling(facts: ReportFacts, decision: MergeDecision) -> Ruling | None:
    if facts.override is None:
        return None
    newer = facts.gate.superseded_by if facts.gate is not None else None
    return rule(facts.override, decision, finished=facts.verdict is not None, superseded_by=newer)


def fit(status: JsonObject) -> JsonObject:
    """The status within its byte budget: first messages get short, then passed tasks' entries go, then others."""
    budget = STATUS_BUDGET - _HEADROOM
    if _size(status) <= budget:
        return status
    fitted = dict(status)
    fitted["tasks"] = [{**entry, "message": entry.get("message", "")[:80]} for entry in status.get("tasks", [])]
    fitted["topFailures"] = [{**f, "message": f.get("message", "")[:160]} for f in status.get("topFailures", [])]
    while _size(fitted) > budget and fitted["tasks"]:
        fitted["tasks"] = fitted["tasks"][: len(fitted["tasks"]) * 3 // 4]
    return fitted


def total(counts: Iterable[TestCounts]) -> TestCounts:
    """The sum of several counts."""
    sums = dict.fromkeys(TestCounts.model_fields, 0)
    for count in counts:
        for name in sums:
            sums[name] = min(sums[name] + getattr(count, name), MOST_COUNTED)
    return TestCounts(**sums)


def _size(status: JsonObject) -> int:
    return len(json.dumps(status, separators=(",", ":")).encode())


def _decide(facts: ReportFacts) -> MergeDecision:
    if facts.why is not None:
        return MergeDecision(False, facts.why[0], facts.why[1])
    gates = [state for cell, state in zip(facts.cells, facts.states, strict=True) if cell.task.uses == "gate"]
    if gates:
        return _decided_by(gates)
    if facts.verdict is Verdict.SKIPPED:
        return MergeDecision(False, Reason.NOTHING_RAN, "no task that decides has run")
    tasks = [
        Deciding(cell.key, state.verdict, state.reason, cell.task.critical)
        for cell, state in zip(facts.cells, facts.states, strict=True)
    ]
    return decide_merge(tasks, facts.on_flaky)


def _decided_by(gates: Sequence[TaskState]) -> MergeDecision:
    """What the gates of the graph have decided; later tasks cannot change it."""
    closed = next((state for state in gates if state.done and state.verdict is not Verdict.PASSED), None)
    if closed is not None:
        by_risk = closed.reason is Reason.RISK_TOO_HIGH
        return MergeDecision(False, Reason.RISK_TOO_HIGH if by_risk else Reason.MERGE_BLOCKED, closed.message)
    if not all(state.done for state in gates):
        return MergeDecision(False, Reason.TESTS_PENDING, "the gate has not decided yet")
    return MergeDecision(True, Reason.MERGE_ALLOWED, gates[0].message)


def _conditions(
    facts: ReportFacts, decision: MergeDecision, ruling: Ruling | None, running: bool, now: datetime
) -> Iterable[Condition]:
    reason, message = _why(facts, running)
    finished = facts.verdict is not None
    passed = facts.verdict in GREEN
    answers: list[tuple[str, bool | None, Reason, str]] = [
        ("Seen", True, Reason.SEEN, Reason.SEEN.sentence),
        ("Finished", finished, reason, message),
        ("Succeeded", passed if finished else None, reason, message),
        ("Failed", not passed if finished else None, reason, message),
        ("MergeAllowed", decision.allowed, decision.reason, decision.message),
    ]
    known = read_conditions(
        facts.written.get("conditions") or (), [answer[0] for answer in answers] + [CONDITION] * (ruling is not None)
    )
    for kind, answer, why, text in answers:
        word = "Unknown" if answer is None else str(answer)
        known = set_condition(known, kind, word, why, text, generation=None, now=now)  # type: ignore[arg-type]
    return known if ruling is None else set_ruling(known, ruling, now)


def _why(facts: ReportFacts, running: bool) -> tuple[Reason, str]:
    """The run's reason and message: of its worst task when it has ended, else what holds it up."""
    if facts.why is not None:
        return facts.why
    if facts.verdict is None:
        if running:
            under_way = sum(state.running for state in facts.states)
            return Reason.RUNNING, f"{under_way} of {len(facts.states)} tasks are under way"
        waiting = _first_waiting(facts)
        return (waiting.reason, waiting.message) if waiting else (Reason.SEEN, Reason.SEEN.sentence)
    ended = list(zip(facts.cells, facts.states, strict=True))
    same = [(cell, state) for cell, state in ended if state.verdict is facts.verdict]
    if facts.verdict is Verdict.PASSED:
        return Reason.TESTS_PASSED, f"{len(same)} of {len(ended)} tasks passed"
    if facts.verdict is Verdict.SKIPPED:
        reasons = {state.reason for _, state in same}
        if reasons == {Reason.CONCURRENCY_SKIP}:
            return Reason.CONCURRENCY_SKIP, same[0][1].message
        but = "" if len(same) == len(ended) else ", but for those that come at the end"
        return Reason.NOTHING_RAN, f"all {len(same)} tasks were skipped{but}"
    cell, state = next((pair for pair in same if pair[1].reason is not None), same[0])
    more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
    return state.reason or Reason.COLLECT_FAILED, f"{cell.key}: {state.message}{more}"


def _first_waiting(facts: ReportFacts) -> Waiting | None:
    """Of all reasons to wait the one that something outside the run decides, if there is one."""
    inner = (Reason.WAITING_FOR_NEEDS, Reason.RESOLVING_REVISION)
    outer = [waiting for waiting in facts.waiting.values() if waiting.reason not in inner]
    return next(iter(outer or facts.waiting.values()), None)


def _queue(facts: ReportFacts) -> JsonObject:
    waiting = _first_waiting(facts) or (Waiting(*facts.why) if facts.why is not None else None)
    return {"reason": waiting.reason.value, "message": waiting.message[:1024]} if waiting else {}


def _add_times(status: JsonObject, facts: ReportFacts, now: datetime) -> None:
    if facts.started_at is not None:
        status["startTime"] = format_time(facts.started_at)
    if facts.verdict is not None:
        ended = [state.ended_at for state in facts.states if state.ended_at is not None]
        completed = max(ended, default=now)
        status["verdict"] = facts.verdict.value
        status["completionTime"] = format_time(completed)
        status["duration"] = format_duration(completed - (facts.started_at or facts.created))


def _add_tests(status: JsonObject, facts: ReportFacts) -> None:
    counts = total([facts.base_counts, *(state.counts for state in facts.states if state.done and state.counts)])
    if counts.total:
        status["tests"] = counts.wire()
    failures = [*facts.base_failures]
    for cell, state in zip(facts.cells, facts.states, strict=True):
        if state.verdict is not None and state.verdict not in GREEN:
            failures.extend(_top_failure(cell.key, failure) for failure in state.failures)
    unique = {(failure.task, failure.test): failure for failure in failures}
    if unique:
        status["topFailures"] = [failure.wire() for failure in list(unique.values())[:MAX_TOP_FAILURES]]


def _top_failure(key: str, failure: FailedCase) -> TopFailure:
    return TopFailure(test=failure.test[:512], task=key[:256], message=failure.message[:_FAILURE_MESSAGE])


def _outputs(facts: ReportFacts) -> JsonObject:
    """Of tasks that an unfinished one needs, or whose condition may name them."""
    open_tasks = [cell.task for cell, state in zip(facts.cells, facts.states, strict=True) if not state.done]
    wanted = {need for task in open_tasks for need in task.needs}
    everything = any(task.when is not None or task.with_ is not None for task in open_tasks)
    outputs: dict[str, dict[str, str]] = {}
    for index, values in facts.outputs.items():
        name = facts.cells[index].task.name
        if everything or name in wanted:
            outputs.setdefault(name, {}).update(values)
    while outputs and _size(outputs) > OUTPUTS_PER_RUN:
        outputs.pop(next(iter(outputs)))
    return outputs


def _entries(facts: ReportFacts) -> list[JsonObject]:
    """At most 256 entries: what a restart must know, what runs, what did not pass, what waits, what passed."""

    def place(pair: tuple[Cell, TaskState]) -> tuple[int, int]:
        cell, state = pair
        return _interest(state, facts.waiting.get(cell.index)), cell.index

    pairs = sorted(zip(facts.cells, facts.states, strict=True), key=place)
    return [_entry(cell, state, facts.waiting.get(cell.index)) for cell, state in pairs[:MAX_TASK_ENTRIES]]


def _interest(state: TaskState, waiting: Waiting | None) -> int:
    if waiting is not None and waiting.reason is Reason.WAITING_FOR_APPROVAL:
        return 0  # people must be able to see what they are asked
    if not state.done and (state.infra_failures or state.test_failures):
        return 0  # that it failed before stands nowhere else
    if not state.done and state.started_at is not None and state.agent is None and state.job is None:
        return 0  # nor that a step of the controller's own has begun, and when
    if state.running:
        return 1
    if state.verdict in (None, Verdict.SKIPPED):
        return 3
    return 4 if state.verdict in GREEN else 2


def _letter(state: TaskState) -> str:
    if state.verdict is Verdict.SKIPPED and state.reason in HARMLESS_SKIPS:
        return LEFT_OUT_LETTER
    return state.verdict.letter if state.verdict else NO_VERDICT_LETTER


def retry_message(state: TaskState, due: datetime) -> str:
    """Why a task waits for its next attempt; it does not count down, so that waiting costs no writes."""
    return f"attempt {state.attempt + 1} starts at {format_time(due)}: {state.message}"


def without_retry(message: str) -> str:
    """What ``retry_message`` was made of."""
    return re.sub(r"^attempt \d+ starts at \S+: ", "", message)


def _entry_tests(state: TaskState) -> TestCounts | None:
    """Of the attempt that gave the verdict; until then, how many failed in those before."""
    if state.done:
        return state.counts
    return TestCounts(total=state.failed_tests, failed=state.failed_tests) if state.failed_tests else None


def _entry(cell: Cell, state: TaskState, waiting: Waiting | None) -> JsonObject:
    reason, message = state.reason, state.message
    if waiting is not None:
        reason, message = waiting.reason, waiting.message
    entry: JsonObject = {"name": cell.task.name, "index": cell.index, "attempt": state.attempt}
    tests = _entry_tests(state)
    optional: JsonObject = {
        "cell": dict(cell.values) or None,
        "shard": cell.shard,
        "verdict": state.verdict.value if state.verdict else None,
        "agent": state.agent,
        "job": state.job,
        "reason": reason.value if reason else None,
        "message": message[:_ENTRY_MESSAGE] or None,
        "startTime": format_time(state.started_at) if state.started_at else None,
        "completionTime": format_time(state.ended_at) if state.ended_at else None,
        "exitCode": state.exit_code,
        "tests": tests.wire() if tests else None,
        "retries": {"infra": state.infra_failures, "tests": state.test_failures}
        if state.infra_failures or state.test_failures
        else None,
    }
    return entry | {key: value for key, value in optional.items() if value is not None}
