"""From what was seen of an attempt to a verdict."""

from __future__ import annotations

import itertools

import pytest

from builders import Reason, Verdict, a_result, a_summary, a_task, counts
from dawg_orchestrator.planning.verdict import judge, judge_lost, judge_stop, worst
from dawg_orchestrator.resources.results import TaskResult, UnreadableReport

PLAIN = a_task()
WITH_REPORT = a_task(results={"junit": ["*.xml"]})
WITH_OUTPUT = a_task(outputs=["version"])
ALL_PASSED, ONE_FAILED = counts(passed=3), counts(passed=2, failed=1)
MALFORMED = [UnreadableReport(file="junit.xml", error="not well-formed")]

TABLE = {
    "exit code 0 and no report declared": (PLAIN, a_result(), "Passed", "TestsPassed"),
    "exit code not 0": (PLAIN, a_result(3), "Failed", "ExitCode"),
    "exit code 0, all cases passed": (WITH_REPORT, a_result(summary=a_summary(ALL_PASSED)), "Passed", "TestsPassed"),
    "exit code 0, all cases skipped": (
        WITH_REPORT, a_result(summary=a_summary(counts(skipped=2))), "Passed", "TestsPassed"),
    "exit code 0 with a failed case": (WITH_REPORT, a_result(summary=a_summary(ONE_FAILED)), "Failed", "TestsFailed"),
    "exit code not 0 with all cases passed": (
        WITH_REPORT, a_result(1, summary=a_summary(ALL_PASSED)), "Failed", "ExitCode"),
    "exit code not 0 and report missing": (
        WITH_REPORT, a_result(1, summary=a_summary(missing=["*.xml"])), "Failed", "ExitCode"),
    "declared report missing": (
        WITH_REPORT, a_result(summary=a_summary(counts(), missing=["*.xml"])), "Failed", "ReportMissing"),
    "declared report empty": (WITH_REPORT, a_result(summary=a_summary(counts())), "Failed", "ReportMissing"),
    "declared report uncounted": (WITH_REPORT, a_result(summary=a_summary(None)), "Failed", "ReportMissing"),
    "declared report malformed": (
        WITH_REPORT, a_result(summary=a_summary(ALL_PASSED, unreadable=MALFORMED)), "Failed", "ReportMalformed"),
    "one of two reports missing": (
        WITH_REPORT, a_result(summary=a_summary(ALL_PASSED, missing=["b.xml"])), "Failed", "ReportMissing"),
    "report not delivered": (
        WITH_REPORT, a_result(infrastructure=Reason.REPORT_NOT_DELIVERED), "InfraError", "ReportNotDelivered"),
    "no word about the declared report": (WITH_REPORT, a_result(), "InfraError", "ReportNotDelivered"),
    "no word about the declared output": (WITH_OUTPUT, a_result(), "InfraError", "ReportNotDelivered"),
    "declared output missing": (
        WITH_OUTPUT, a_result(summary=a_summary(missing_outputs=["version"])), "Failed", "OutputMissing"),
    "a test passed on another try": (
        WITH_REPORT, a_result(summary=a_summary(counts(passed=1, flaky=1))), "Flaky", "Flaky"),
    "flaky, but exit code not 0": (
        WITH_REPORT, a_result(1, summary=a_summary(counts(passed=1, flaky=1))), "Failed", "ExitCode"),
    "out of memory": (PLAIN, a_result(137, oom_killed=True), "InfraError", "OOMKilled"),
    "evicted": (PLAIN, a_result(None, infrastructure=Reason.EVICTED), "InfraError", "Evicted"),
    "evicted after a failed case": (
        WITH_REPORT, a_result(1, infrastructure=Reason.EVICTED, summary=a_summary(ONE_FAILED)),
        "InfraError", "Evicted"),
    "nobody saw the end": (PLAIN, a_result(None), "InfraError", "CollectFailed"),
}  # fmt: skip


@pytest.mark.parametrize(("task", "result", "verdict", "reason"), TABLE.values(), ids=TABLE)
def test_an_attempt_is_judged_by_the_table(task, result, verdict, reason) -> None:  # type: ignore[no-untyped-def]
    judgement = judge(task, result, None)

    assert (judgement.verdict.value, judgement.reason.value) == (verdict, reason)


@pytest.mark.parametrize(
    ("stopping", "verdict", "reason"),
    [
        (Reason.CANCELLED, "Cancelled", "Cancelled"),
        (Reason.SUPERSEDED, "Cancelled", "Superseded"),
        (Reason.FAIL_FAST, "Cancelled", "FailFast"),
        (Reason.TIMEOUT, "TimedOut", "Timeout"),
        (Reason.RUN_TIMEOUT, "TimedOut", "RunTimeout"),
        (Reason.POOL_NOT_FOUND, "InfraError", "PoolNotFound"),
    ],
)
def test_a_test_that_we_killed_ended_for_the_reason_we_had(stopping: Reason, verdict: str, reason: str) -> None:
    judgement = judge(WITH_REPORT, a_result(None, killed=True), stopping)

    assert (judgement.verdict.value, judgement.reason.value) == (verdict, reason)


def test_a_test_that_ended_by_itself_before_the_kill_is_judged_as_usual() -> None:
    assert judge(PLAIN, a_result(0), Reason.TIMEOUT).verdict is Verdict.PASSED
    assert judge(PLAIN, a_result(1), Reason.CANCELLED).reason is Reason.EXIT_CODE


def test_a_pod_that_went_away_while_we_stopped_it_was_stopped_by_us() -> None:
    gone = a_result(None, infrastructure=Reason.POD_DELETED)

    assert judge(PLAIN, gone, Reason.TIMEOUT).verdict is Verdict.TIMED_OUT
    assert judge(PLAIN, gone, Reason.CANCELLED).verdict is Verdict.CANCELLED


def test_a_kill_whose_reason_is_forgotten_is_never_blamed_on_the_test() -> None:
    judgement = judge(PLAIN, a_result(143, killed=True), None)

    assert judgement.verdict is Verdict.INFRA_ERROR
    assert judgement.reason.retried


def test_a_test_that_timed_out_before_it_began_tells_what_it_waited_for() -> None:
    never = TaskResult(killed=True, infrastructure=Reason.IMAGE_PULL, message="no such image")

    judgement = judge(PLAIN, never, Reason.RUN_TIMEOUT)

    assert (judgement.verdict, judgement.reason) == (Verdict.INFRA_ERROR, Reason.IMAGE_PULL)
    assert judgement.message == "no such image"


def test_a_pod_that_our_own_stop_deleted_before_its_test_began_is_nobody_elses_doing() -> None:
    deleted = TaskResult(infrastructure=Reason.POD_DELETED, message="somebody did that")

    judgement = judge(PLAIN, deleted, Reason.RUN_TIMEOUT)

    assert (judgement.verdict, judgement.reason) == (Verdict.INFRA_ERROR, Reason.UNSCHEDULABLE)
    assert judgement.message == "the test never started"


def test_a_lost_job_is_infrastructure_unless_we_stopped_it() -> None:
    assert judge_lost(None, started=True).verdict is Verdict.INFRA_ERROR
    assert judge_lost(Reason.CANCELLED, started=True).verdict is Verdict.CANCELLED


def test_every_infrastructure_reason_gives_an_infrastructure_error() -> None:
    for reason in (reason for reason in Reason if reason.infrastructure):
        for exit_code, killed in itertools.product((None, 0, 1), (False, True)):
            judgement = judge(PLAIN, a_result(exit_code, infrastructure=reason, killed=killed), None)
            assert judgement.verdict is Verdict.INFRA_ERROR, (reason, exit_code, killed)


def test_an_infrastructure_stop_keeps_its_message() -> None:
    judgement = judge_stop(Reason.POOL_NOT_FOUND, started=True, waited=None, message="no pool 'x'")

    assert judgement.message == "no pool 'x'"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ("", "S"), ("P", "P"), ("PS", "P"), ("PL", "L"), ("PC", "C"), ("CI", "I"), ("IT", "T"), ("TF", "F"),
        ("PLFITCS", "F"), ("SS", "S"), ("LC", "C"),
    ],
)  # fmt: skip
def test_a_run_is_as_bad_as_its_worst_task(verdicts: str, expected: str) -> None:
    by_letter = {verdict.letter: verdict for verdict in Verdict}

    assert worst(by_letter[letter] for letter in verdicts).letter == expected


def test_an_attempt_that_was_lost_with_its_agent_names_it() -> None:
    lost = judge_lost(None, started=True, agent="agent-1")

    assert (lost.verdict, lost.reason) == (Verdict.INFRA_ERROR, Reason.AGENT_LOST)
    assert "agent-1" in lost.message


def test_a_failure_at_a_limit_names_the_limit_and_a_pass_does_not() -> None:
    full = judge(a_task(), a_result(exit_code=1, over_limit=Reason.WORKSPACE_FULL), None)
    fine = judge(a_task(), a_result(exit_code=0, over_limit=Reason.WORKSPACE_FULL), None)

    assert (full.verdict, full.reason) == (Verdict.FAILED, Reason.WORKSPACE_FULL)
    assert fine.verdict is Verdict.PASSED
