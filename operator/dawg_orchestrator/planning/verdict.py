"""From what was seen of an attempt to a verdict, and from tasks' verdicts to the run's.

Infrastructure is never a test failure, a declared report that is missing is never a pass, and a pass on another try
is Flaky.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import ReportSummary, TaskResult
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.verdict import Verdict

# Worst first: a test that failed says more about the change than infrastructure that did.
_SEVERITY = (
    Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR, Verdict.CANCELLED,
    Verdict.FLAKY, Verdict.PASSED, Verdict.SKIPPED,
)  # fmt: skip
_TIMEOUTS = (Reason.TIMEOUT, Reason.RUN_TIMEOUT)
_REFUSALS = (Reason.INVALID_SPEC, Reason.TOO_DEEP, Reason.RUN_REFUSED)  # of what a step asks for


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its why."""

    verdict: Verdict
    reason: Reason
    message: str = ""


def judge(task: Task, result: TaskResult, stopping: Reason | None) -> Judgement:
    """The verdict on one attempt. ``stopping`` is why the controller asked for its end, if it did.

    The first question answered decides. A test that ended by itself before our kill reached it is judged as usual.
    """
    unseen = result.killed or (result.infrastructure is not None and result.exit_code is None)
    if stopping is not None and unseen:
        started = result.started_at is not None
        if result.infrastructure is Reason.POD_DELETED:  # by ourselves: it does not say what the start waited for
            return judge_stop(stopping, started=started, waited=None)
        return judge_stop(stopping, started=started, waited=result.infrastructure, message=result.message)
    if result.killed:
        message = "its end was asked for by a controller that is gone, and why is not known any more"
        return Judgement(Verdict.INFRA_ERROR, Reason.POD_DELETED, message)
    if result.infrastructure is not None:
        return Judgement(Verdict.INFRA_ERROR, result.infrastructure, result.message)
    if result.oom_killed:
        message = result.message or "the test was killed for its memory use; raise resources.limits.memory"
        return Judgement(Verdict.INFRA_ERROR, Reason.OOM_KILLED, message)
    if task.uses is not None and result.exit_code is not None:
        if result.exit_code == 0:
            return Judgement(Verdict.PASSED, Reason.STEP_DONE, result.message)
        return Judgement(Verdict.FAILED, Reason.STEP_FAILED, result.message)
    if result.exit_code is None:
        message = result.message or "nobody saw how the test ended"
        return Judgement(Verdict.INFRA_ERROR, Reason.COLLECT_FAILED, message)
    if result.summary is None and _collects(task):
        message = result.message or "the sidecar gave no account of the declared results"
        return Judgement(Verdict.INFRA_ERROR, Reason.REPORT_NOT_DELIVERED, message)
    return _judge_tests(task, result.exit_code, result.over_limit, result.summary or ReportSummary())


def judge_stop(stopping: Reason, *, started: bool, waited: Reason | None, message: str = "") -> Judgement:
    """The verdict on an attempt that we ended; ``waited`` is what its start waited for, if it never started."""
    if stopping.infrastructure:
        return Judgement(Verdict.INFRA_ERROR, stopping, message or stopping.sentence)
    if stopping in _REFUSALS:
        return Judgement(Verdict.FAILED, stopping, message or stopping.sentence)
    if stopping is Reason.NEED_NOT_PASSED:
        return Judgement(Verdict.SKIPPED, stopping, message or stopping.sentence)
    if stopping not in _TIMEOUTS:
        return Judgement(Verdict.CANCELLED, stopping, stopping.sentence)
    if not started:
        return Judgement(Verdict.INFRA_ERROR, waited or Reason.UNSCHEDULABLE, message or "the test never started")
    return Judgement(Verdict.TIMED_OUT, stopping, stopping.sentence)


def judge_lost(stopping: Reason | None, *, started: bool, agent: str | None = None) -> Judgement:
    """The verdict on an attempt that nobody reports: its Job is gone, or the ``agent`` in whose own pod it ran."""
    if stopping is not None:
        return judge_stop(stopping, started=started, waited=None)
    if agent is not None:
        return Judgement(Verdict.INFRA_ERROR, Reason.AGENT_LOST, f"agent {agent} went away while it ran the test")
    message = "the task's Job was deleted before anybody saw how it ended"
    return Judgement(Verdict.INFRA_ERROR, Reason.POD_DELETED, message)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a whole: the worst of its parts; Skipped when nothing ran."""
    return min(verdicts, key=_SEVERITY.index, default=Verdict.SKIPPED)


def _collects(task: Task) -> bool:
    return bool(task.results.junit or task.outputs)


def _judge_tests(task: Task, exit_code: int, over_limit: Reason | None, summary: ReportSummary) -> Judgement:
    tests = summary.tests
    if tests is not None and tests.failed:
        return Judgement(Verdict.FAILED, Reason.TESTS_FAILED, f"{tests.failed} of {tests.total} tests failed")
    if exit_code != 0 and over_limit is not None:
        return Judgement(Verdict.FAILED, over_limit, f"{over_limit.sentence} Its exit code is {exit_code}.")
    if exit_code != 0:
        beside = f", and {_listed(summary.missing)} was not written" if summary.missing else ""
        passed = f" though all {tests.total} reported tests passed" if tests is not None and tests.total else ""
        return Judgement(
            Verdict.FAILED, Reason.EXIT_CODE, f"the command ended with exit code {exit_code}{passed}{beside}"
        )
    if summary.unreadable:
        first = summary.unreadable[0]
        return Judgement(Verdict.FAILED, Reason.REPORT_MALFORMED, f"{first.file}: {first.error}")
    if task.results.junit and (summary.missing or tests is None or not tests.total):
        patterns = summary.missing or task.results.junit
        message = f"no report matches {_listed(patterns)}, or it holds no test; the exit code alone is no proof"
        return Judgement(Verdict.FAILED, Reason.REPORT_MISSING, message)
    if summary.missing_outputs:
        message = f"declared, but not left behind: {_listed(summary.missing_outputs)}"
        return Judgement(Verdict.FAILED, Reason.OUTPUT_MISSING, message)
    if tests is not None and tests.flaky:
        return Judgement(
            Verdict.FLAKY, Reason.FLAKY, f"{tests.flaky} of {tests.total} tests passed only on another try"
        )
    counted = f"{tests.total} tests" if tests is not None else "exit code 0"
    return Judgement(Verdict.PASSED, Reason.TESTS_PASSED, counted)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
