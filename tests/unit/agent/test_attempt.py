"""When an attempt is over, and which facts its agent reports."""

from __future__ import annotations

from typing import Any

import pytest

from dawg_agent.attempt import CHECKOUT, Sight, conclude, news
from dawg_agent.podstate import PATIENCE, Waiting, trouble_of_job, trouble_of_pod
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import ReportSummary, SidecarEvent, TaskResult
from unit.agent.pods import NOON, a_pod, an_order, disrupted, ended, running, seconds, waiting

LATER = NOON + seconds(90)
COLLECTED = {"collected": SidecarEvent(event="collected", summary=ReportSummary(files=1))}
COMMIT = "a" * 40


def over(sight: Sight, *, sidecar: bool = True, held: bool = False) -> TaskResult:
    result = conclude(sight, an_order(sidecar=sidecar, held=held), LATER)
    assert result is not None, "the attempt is not over"
    return result


def not_over(sight: Sight, *, sidecar: bool = True, held: bool = False) -> None:
    assert conclude(sight, an_order(sidecar=sidecar, held=held), LATER) is None


def test_without_a_sidecar_the_exit_code_is_the_end() -> None:
    result = over(Sight(pod=a_pod(ended(3))), sidecar=False)

    assert (result.exit_code, result.infrastructure, result.summary) == (3, None, None)
    assert result.started_at == NOON
    assert result.ended_at == NOON + seconds(60)
    assert result.node == "node-a"


def test_a_running_test_is_not_over() -> None:
    not_over(Sight(pod=a_pod(running())))


def test_the_end_waits_for_the_report() -> None:
    sight = Sight(pod=a_pod(ended(0), running()))
    not_over(sight)

    sight.events |= COLLECTED | {"source": SidecarEvent(event="source", commit=COMMIT)}
    result = over(sight)

    assert result.exit_code == 0
    assert result.commit == COMMIT
    assert result.summary == ReportSummary(files=1)


def test_a_sidecar_that_died_without_a_word_is_infrastructure_once_its_log_is_read() -> None:
    sight = Sight(pod=a_pod(ended(0), ended(137, "OOMKilled")))
    not_over(sight)

    sight.sidecar_read = True
    result = over(sight)

    assert result.infrastructure is Reason.COLLECT_FAILED
    assert result.exit_code == 0
    assert "exit code 137 (OOMKilled)" in result.message


def test_a_sidecar_that_stays_silent_does_not_hang_the_task() -> None:
    late = conclude(Sight(pod=a_pod(ended(0), running())), an_order(), NOON + seconds(3600))

    assert late is not None
    assert late.infrastructure is Reason.COLLECT_FAILED


def test_out_of_memory_is_told() -> None:
    result = over(Sight(pod=a_pod(ended(137, "OOMKilled")), events=dict(COLLECTED)))

    assert result.oom_killed
    assert result.exit_code == 137


def test_a_source_that_failed_ends_the_attempt_at_once() -> None:
    failed = SidecarEvent(event="failed", reason=Reason.SOURCE_REFUSED, message="no")
    result = over(Sight(pod=a_pod(running(), running()), events={"failed": failed}))

    assert (result.infrastructure, result.message, result.exit_code) == (Reason.SOURCE_REFUSED, "no", None)


def test_a_checkout_that_ended_badly_is_heard_first() -> None:
    pod = a_pod(waiting("PodInitializing"))
    pod["status"]["initContainerStatuses"] = [{"name": CHECKOUT, "state": ended(1)}]
    not_over(Sight(pod=pod))

    assert over(Sight(pod=pod, checkout_read=True)).infrastructure is Reason.SOURCE_UNREACHABLE


def test_a_held_pod_ends_by_the_sidecars_word() -> None:
    sight = Sight(pod=a_pod(running(), running()), events=dict(COLLECTED))
    not_over(sight, held=True)

    sight.events["exited"] = SidecarEvent(event="exited", exit_code=4)
    not_over(sight, held=False)
    result = over(sight, held=True)

    assert result.exit_code == 4
    assert result.ended_at == LATER


def test_a_command_that_is_not_in_the_image_is_no_test_failure() -> None:
    pod = a_pod(ended(128, "StartError", message='exec: "pytset": executable file not found in $PATH'))
    result = over(Sight(pod=pod), sidecar=False)

    assert result.infrastructure is Reason.START_FAILED
    assert "pytset" in result.message
    assert result.started_at is None


class TestDeletion:
    def test_by_somebody_else_is_infrastructure(self) -> None:
        pod = a_pod(ended(143, at=NOON + seconds(60)), deleted=NOON + seconds(50))
        result = over(Sight(pod=pod), sidecar=False)

        assert (result.infrastructure, result.killed, result.exit_code) == (Reason.POD_DELETED, False, None)

    def test_by_us_is_a_kill_and_keeps_the_report(self) -> None:
        pod = a_pod(ended(143, at=NOON + seconds(60)), running(), deleted=NOON + seconds(50))
        sight = Sight(pod=pod, cancelled=True)
        not_over(sight)

        sight.events |= COLLECTED
        result = over(sight)

        assert result.killed
        assert result.exit_code is None
        assert result.summary == ReportSummary(files=1)

    def test_waits_until_the_test_can_no_longer_run(self) -> None:
        not_over(Sight(pod=a_pod(running(), deleted=LATER, grace=300)))
        not_over(Sight(pod=a_pod(running(), deleted=LATER, grace=300), cancelled=True))

    def test_after_a_test_that_had_ended_changes_nothing(self) -> None:
        pod = a_pod(ended(1, at=NOON + seconds(40)), deleted=NOON + seconds(50))
        result = over(Sight(pod=pod, cancelled=True, events=dict(COLLECTED)))

        assert (result.killed, result.infrastructure, result.exit_code) == (False, None, 1)

    def test_of_a_pod_that_vanished_while_nobody_looked(self) -> None:
        sight = Sight(pod=a_pod(running(), running()), pod_gone=True)

        assert over(sight).infrastructure is Reason.POD_DELETED
        sight.cancelled = True
        assert over(sight).killed

    def test_of_a_job_that_never_had_a_pod(self) -> None:
        assert over(Sight(job_gone=True)).infrastructure is Reason.POD_DELETED
        assert over(Sight(job_gone=True, cancelled=True)).killed

    def test_of_a_pod_that_was_there_only_while_nobody_looked(self) -> None:
        result = over(Sight(pod_missed=True))

        assert (result.infrastructure, result.killed) == (Reason.POD_DELETED, False)
        assert "while no agent saw how it ended" in result.message
        assert over(Sight(pod_missed=True, cancelled=True)).killed

    def test_while_it_waited_tells_what_it_waited_for(self) -> None:
        pod = a_pod(waiting("ImagePullBackOff", "Back-off pulling image"), deleted=NOON)
        sight = Sight(pod=pod, cancelled=True)
        news(sight, an_order(), NOON)
        result = over(sight)

        assert result.killed
        assert result.infrastructure is Reason.IMAGE_PULL


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (a_pod(ended(137), phase="Failed", reason="Evicted", message="low on memory"), Reason.EVICTED),
        (
            a_pod(ended(137), phase="Failed", conditions=[disrupted("PreemptionByScheduler", "preempted")]),
            Reason.EVICTED,
        ),
        (a_pod(ended(143), deleted=NOON, conditions=[disrupted("EvictionByEvictionAPI")]), Reason.EVICTED),
        (a_pod(running(), phase="Failed", conditions=[disrupted("DeletionByPodGC")]), Reason.NODE_LOST),
        (a_pod(running(), phase="Unknown"), Reason.NODE_LOST),
        (a_pod(running(), deleted=NOON, grace=30, conditions=[disrupted("DeletionByTaintManager")]), Reason.NODE_LOST),
        (a_pod(running(), deleted=NOON, grace=30), Reason.NODE_LOST),  # 60 s past its deadline
        (a_pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource"), Reason.EVICTED),
    ],
)
def test_what_takes_a_pod_away_is_named(pod: dict[str, Any], reason: Reason) -> None:
    result = conclude(Sight(pod=pod), an_order(sidecar=False), LATER + seconds(1))

    assert result is not None
    assert (result.infrastructure, result.exit_code) == (reason, None)


def test_a_test_that_ended_before_the_eviction_counts() -> None:
    pod = a_pod(ended(0, at=NOON), conditions=[disrupted("EvictionByEvictionAPI", at=NOON + seconds(5))])

    assert over(Sight(pod=pod), sidecar=False).exit_code == 0


def seen_for(pod: dict[str, Any] | None, seconds_: float, trouble: Waiting | None = None) -> TaskResult | None:
    sight = Sight(pod=pod, trouble=trouble)
    order = an_order()
    assert news(sight, order, NOON)[0] is not Reason.RUNNING
    return conclude(sight, order, NOON + seconds(seconds_))


@pytest.mark.parametrize(
    ("why", "message", "after", "reason"),
    [
        ("InvalidImageName", "couldn't parse image name", 0, Reason.IMAGE_PULL),
        ("ErrImageNeverPull", "image is not present with pull policy of Never", 0, Reason.IMAGE_PULL),
        ("ErrImagePull", "failed to resolve reference: docker.io/none:1: not found", 0, Reason.IMAGE_PULL),
        ("ImagePullBackOff", "Back-off pulling image: dial tcp: i/o timeout", 30, Reason.IMAGE_PULL),
        ("CreateContainerConfigError", 'secret "database" not found', 30, Reason.SECRET_MISSING),
        ("CreateContainerError", "no command specified", 30, Reason.START_FAILED),
    ],
)
def test_what_will_not_come_is_not_waited_for(why: str, message: str, after: int, reason: Reason) -> None:
    pod = a_pod(waiting(why, message), phase="Pending")

    assert after == 0 or seen_for(pod, after - 1) is None
    result = seen_for(pod, after)
    assert result is not None
    assert result.infrastructure is reason
    assert message in result.message


def test_an_image_error_of_another_container_names_it() -> None:
    pod = a_pod(waiting("PodInitializing"), waiting("InvalidImageName", "bad"), phase="Pending")
    result = seen_for(pod, 0)

    assert result is not None
    assert "container sidecar" in result.message


def test_no_node_is_waited_for_and_told() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no cpu"}
    pod = a_pod(phase="Pending", conditions=[condition])
    sight = Sight(pod=pod)
    reason, message, _ = news(sight, an_order(), NOON)

    assert reason is Reason.UNSCHEDULABLE
    assert "0/1 nodes: no cpu" in message
    assert conclude(sight, an_order(), NOON + seconds(86400)) is None


def an_event(reason: str, message: str) -> dict[str, Any]:
    return {"reason": reason, "message": message, "type": "Warning", "metadata": {}, "lastTimestamp": "2026-03-02"}


def test_a_full_quota_is_waited_for_and_told() -> None:
    trouble = trouble_of_job([an_event("FailedCreate", "pods is forbidden: exceeded quota: small, requested: pods=1")])

    assert trouble is not None
    assert trouble.reason is Reason.QUOTA_EXCEEDED
    assert seen_for(None, 86400, trouble) is None


def test_a_job_whose_pod_is_refused_for_long_ends() -> None:
    trouble = trouble_of_job([an_event("FailedCreate", "violates PodSecurity")])

    assert seen_for(None, PATIENCE.total_seconds() - 1, trouble) is None
    result = seen_for(None, PATIENCE.total_seconds(), trouble)
    assert result is not None
    assert result.infrastructure is Reason.JOB_REFUSED


def test_a_secret_that_cannot_be_mounted_is_named() -> None:
    told = 'MountVolume.SetUp failed for volume "git" : secret "robot" not found'
    trouble = trouble_of_pod([an_event("FailedMount", told)])
    result = seen_for(a_pod(waiting("ContainerCreating"), phase="Pending"), 30, trouble)

    assert result is not None
    assert (result.infrastructure, result.message) == (Reason.SECRET_MISSING, told)


def test_patience_begins_anew_when_the_reason_changes() -> None:
    sight, order = Sight(pod=a_pod(waiting("ImagePullBackOff", "timeout"), phase="Pending")), an_order()
    news(sight, order, NOON)
    sight.pod = a_pod(waiting("ContainerCreating"), phase="Pending")
    news(sight, order, NOON + seconds(20))
    sight.pod = a_pod(waiting("ImagePullBackOff", "timeout"), phase="Pending")

    assert conclude(sight, order, NOON + seconds(40)) is None


def test_news_of_a_running_test_carries_start_commit_and_exit_code() -> None:
    sight = Sight(pod=a_pod(running()), events={"source": SidecarEvent(event="source", commit=COMMIT)})
    assert news(sight, an_order(), NOON) == (
        Reason.RUNNING, "", {"started_at": NOON, "commit": COMMIT, "exit_code": None},
    )  # fmt: skip

    sight.events["exited"] = SidecarEvent(event="exited", exit_code=2)
    assert news(sight, an_order(), NOON)[2]["exit_code"] == 2
