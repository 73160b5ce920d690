"""How far each task of a run has come, and how one report or loss moves it on.

A TaskState is a value; every function here returns a new one. What is not in these states can be derived from spec,
status, Jobs and what agents say they hold.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.verdict import Judgement
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import FailedCase, TaskResult
from dawg_orchestrator.resources.task import Backoff
from dawg_orchestrator.resources.testrun import MOST_COUNTED, TestCounts
from dawg_orchestrator.resources.verdict import Verdict

_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class TaskState:
    """A cell: not started (attempt 0), under way (``running``), ended (``verdict``) or waiting for its next attempt."""

    attempt: int = 0  # the last one that was started
    running: bool = False
    verdict: Verdict | None = None
    reason: Reason | None = None
    message: str = ""
    infra_failures: int = 0
    test_failures: int = 0
    failed_tests: int = 0  # single tests that failed in an earlier attempt
    agent: str | None = None
    job: str | None = None
    granted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    counts: TestCounts | None = None
    failures: tuple[FailedCase, ...] = ()
    stopping: Reason | None = None
    stopped_at: datetime | None = None
    stored: bool = True  # full results reached the api, or there were none
    log_stored: bool = False

    @property
    def done(self) -> bool:
        """Whether the task has its verdict."""
        return self.verdict is not None


def started(state: TaskState, agent: str, job: str | None, now: datetime) -> TaskState:
    """The next attempt is granted to an agent."""
    return TaskState(
        attempt=state.attempt + 1,
        running=True,
        reason=Reason.STARTING,
        infra_failures=state.infra_failures,
        test_failures=state.test_failures,
        failed_tests=state.failed_tests,
        agent=agent,
        job=job,
        granted_at=now,
    )


def begun(state: TaskState, now: datetime) -> TaskState:
    """A step that the controller carries out itself is under way."""
    return TaskState(
        attempt=state.attempt + 1, running=True, reason=Reason.STARTING, granted_at=now, started_at=now,
        infra_failures=state.infra_failures, test_failures=state.test_failures,
    )  # fmt: skip


def not_started(state: TaskState) -> TaskState:
    """A grant that came to nothing is taken back: the attempt does not count."""
    earlier = state.attempt - 1
    return replace(
        state, attempt=earlier, running=False, agent=None, job=None, reason=None, granted_at=None,
        stopping=None, stopped_at=None, ended_at=state.granted_at if earlier else None,
    )  # fmt: skip


def concluded(state: TaskState, cell: Cell, judgement: Judgement, result: TaskResult, now: datetime) -> TaskState:
    """An attempt ended with this judgement: it is the task's verdict, or the next attempt waits for its backoff."""
    summary = result.summary
    ended = replace(
        state,
        running=False,
        stopping=None,
        stopped_at=None,
        reason=judgement.reason,
        message=judgement.message,
        started_at=result.started_at or state.started_at,
        ended_at=min(result.ended_at or now, now),  # by the node's clock, which may be ahead of ours
        exit_code=result.exit_code,
        counts=summary.tests if summary else None,
        failures=tuple(summary.failures) if summary else (),
        stored=summary.stored if summary else True,
        log_stored=result.log_stored,
    )
    retry = cell.task.retry
    if state.stopping not in (None, Reason.TIMEOUT):
        return replace(ended, verdict=judgement.verdict)  # the run is over: no attempt follows
    if (
        judgement.verdict is Verdict.INFRA_ERROR
        and judgement.reason.retried
        and state.infra_failures < retry.infra.limit
    ):
        return replace(ended, infra_failures=state.infra_failures + 1)
    if _is_test_failure(judgement) and state.test_failures < retry.tests.limit:
        failed = ended.counts.failed if ended.counts else 0
        return replace(ended, test_failures=state.test_failures + 1, failed_tests=max(failed, state.failed_tests))
    if judgement.verdict is Verdict.PASSED and state.test_failures:
        return _passed_on_retry(ended)
    return replace(ended, verdict=judgement.verdict)


def settled(state: TaskState, verdict: Verdict, reason: Reason, message: str, now: datetime) -> TaskState:
    """The task ends without a report: skipped, cancelled before it began, or given up."""
    return replace(
        state, running=False, stopping=None, stopped_at=None, verdict=verdict, reason=reason, message=message,
        ended_at=state.ended_at if not state.running and state.ended_at else now,
    )  # fmt: skip


def stop(state: TaskState, reason: Reason, now: datetime) -> TaskState:
    """The attempt was asked to end; its report, or a deadline, settles it."""
    return replace(state, stopping=reason, stopped_at=now)


def retry_at(state: TaskState, backoff: Backoff, key: str) -> datetime | None:
    """When a task that waits for its next attempt may start; None when nothing holds it back.

    ``initial * factor ** (n - 1)`` after the n-th failure, at most ``max``; the jitter of up to 20 % comes from a hash
    of key and attempt, so that the same facts always give the same time.
    """
    failures = state.infra_failures + state.test_failures
    if not failures or state.ended_at is None:
        return None
    growth = float(backoff.factor) ** (failures - 1)
    seconds = min(backoff.max.total_seconds(), backoff.initial.total_seconds() * growth)
    if backoff.jitter:
        digest = hashlib.sha256(f"{key}\x00{state.attempt}".encode()).digest()
        seconds *= 1 + _JITTER * (digest[0] / 255)
    return state.ended_at + timedelta(seconds=seconds)


def _is_test_failure(judgement: Judgement) -> bool:
    if judgement.verdict is Verdict.TIMED_OUT:
        return judgement.reason is Reason.TIMEOUT
    return judgement.verdict is Verdict.FAILED


def _passed_on_retry(state: TaskState) -> TaskState:
    """A pass after a test failure is Flaky, and so are the tests that had failed."""
    counts = state.counts
    if counts is not None:
        flaky = min(state.failed_tests, counts.passed)
        both = min(counts.flaky + flaky, MOST_COUNTED)
        counts = counts.model_copy(update={"passed": counts.passed - flaky, "flaky": both})
    message = f"it passed on attempt {state.attempt}, after {state.test_failures} failed"
    return replace(state, verdict=Verdict.FLAKY, reason=Reason.FLAKY, message=message, counts=counts)
