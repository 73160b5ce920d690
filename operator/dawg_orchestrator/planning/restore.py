"""The states of a run's tasks from what the cluster holds: its status and its Jobs. The way back after any restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dawg_orchestrator.planning.graph import Graph
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.report import total, without_retry
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import NO_TESTS, TaskStatus, TestCounts, TestRunStatus, TopFailure
from dawg_orchestrator.resources.verdict import BY_LETTER, LEFT_OUT_LETTER, Verdict

_UNTOUCHED = TaskState()


@dataclass(frozen=True, slots=True)
class Restored:
    """What a status says about its run."""

    states: tuple[TaskState, ...]
    base_counts: TestCounts
    base_failures: tuple[TopFailure, ...]
    outputs: dict[int, dict[str, str]]
    started_at: datetime | None


def restore(
    graph: Graph, status: Mapping[str, Any], job_attempts: Mapping[int, tuple[int, str]], now: datetime
) -> Restored:
    """States from status entries, else from the letters; a Job that is newer than its entry means a later attempt.

    ``job_attempts`` maps an index to (attempt, Job's name) of its newest Job. Times that are later than ``now`` are of
    a leader whose clock was ahead of ours: they count as now, or time-outs and backoffs would wait for them.
    """
    parsed = TestRunStatus.model_validate(dict(status))
    entries = {entry.index: entry for entry in parsed.tasks}
    letters = (parsed.task_verdicts or "").ljust(len(graph.cells), ".")
    states = []
    for cell in graph.cells:
        entry = entries.get(cell.index)
        verdict = BY_LETTER.get(letters[cell.index])
        if entry is not None:
            state = _from_entry(entry, verdict, now)
        elif letters[cell.index] == LEFT_OUT_LETTER:
            state = TaskState(verdict=verdict, reason=Reason.CONDITION_FALSE)
        else:
            state = TaskState(verdict=verdict) if verdict is not None else _UNTOUCHED
        states.append(with_job(state, job_attempts.get(cell.index)))
    return Restored(
        tuple(states), _uncounted(parsed), tuple(parsed.top_failures), _outputs(graph, parsed),
        min(parsed.start_time, now) if parsed.start_time else None,
    )  # fmt: skip


def _from_entry(entry: TaskStatus, verdict: Verdict | None, now: datetime) -> TaskState:
    ended = entry.completion_time is not None
    reason = Reason.of(entry.reason)
    return TaskState(
        attempt=entry.attempt,
        running=entry.attempt > 0 and verdict is None and not ended,
        verdict=verdict,
        reason=reason,
        message=without_retry(entry.message or ""),
        infra_failures=entry.retries.infra if entry.retries else 0,
        test_failures=entry.retries.tests if entry.retries else 0,
        failed_tests=entry.tests.failed if entry.tests and verdict is None else 0,
        agent=entry.agent,
        job=entry.job,
        started_at=min(entry.start_time, now) if entry.start_time else None,
        ended_at=min(entry.completion_time, now) if entry.completion_time else None,
        exit_code=entry.exit_code,
        counts=entry.tests if verdict is not None else None,
        log_stored=verdict is not None,
    )


def with_job(state: TaskState, job: tuple[int, str] | None) -> TaskState:
    """A Job that is newer than what is known shows that its attempt has begun."""
    if job is None or state.done:
        return state
    attempt, name = job
    if attempt > state.attempt:
        return replace(
            state, attempt=attempt, running=True, job=name, reason=Reason.STARTING, message="", agent=None,
            granted_at=None, started_at=None, ended_at=None, exit_code=None,
        )  # fmt: skip
    if attempt == state.attempt and state.job is None:
        return replace(state, job=name)
    return state


def _uncounted(status: TestRunStatus) -> TestCounts:
    """The tests of the tasks that status has no entry of."""
    whole = status.tests
    if whole is None:
        return NO_TESTS
    part = total(entry.tests for entry in status.tasks if entry.tests is not None and entry.verdict is not None)
    return TestCounts(**{name: max(0, getattr(whole, name) - getattr(part, name)) for name in TestCounts.model_fields})


def _outputs(graph: Graph, status: TestRunStatus) -> dict[int, dict[str, str]]:
    return {
        graph.of_task[name][0]: dict(values) for name, values in (status.outputs or {}).items() if name in graph.of_task
    }
