"""The leader's memory: what the cluster and agents say, in whatever order, and what comes of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from builders import (
    NAMESPACE,
    NOON,
    Reason,
    a_result,
    a_summary,
    a_task_spec,
    after,
    an_attempt,
    counts,
    job_object,
    pod_object,
    pool_object,
    run_object,
)
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.workqueue import Key
from dawg_orchestrator.planning.lease import Lease
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import (
    Alive,
    Cancel,
    Drained,
    Finished,
    FromController,
    Held,
    Hello,
    LeaseId,
    Progress,
    Report,
    Welcome,
)
from dawg_orchestrator.resources.verdict import Verdict

POOL = (NAMESPACE, "default")
OLDER = LeaseId(term=1, number=3)  # given by the leader before
RUNNING = {
    "tasks": [{"name": "unit", "index": 0, "attempt": 1, "agent": "agent-1", "job": "job-0-1"}],
    "taskVerdicts": ".",
}


class World:
    """A desk of term 2 that has served since noon, with one pool, agents and runs."""

    def __init__(self, *runs: dict[str, Any], agents: int = 1, jobs: tuple[dict[str, Any], ...] = ()) -> None:
        self.woken: list[Key] = []
        self.desk = Desk(2, lambda key, _at: self.woken.append(key), NOON)
        self.desk.see_pool(pool_object())
        for n in range(1, agents + 1):
            self.desk.see_pod(pod_object(f"agent-{n}"))
        for job in jobs:
            self.desk.see_job(job)
        for run in runs:
            self.desk.see_run(run)

    def hello(self, n: int = 1, *, now: float = 0, **said: Any) -> list[FromController]:
        """Agent n opens its session."""
        peer = Peer(f"uid-agent-{n}", f"agent-{n}", NAMESPACE, said.pop("pool", "default"))
        return self.desk.hear_hello(peer, Hello(pool=peer.pool, version="1", slots=2, **said), after(now))

    def plan(self, run: str = "run", now: float = 0) -> Any:
        found = self.desk.run_named(NAMESPACE, run)
        assert found is not None
        return self.desk.plan_run(found, after(now))

    def grant(self, now: float = 0) -> list[Lease]:
        """Plan every run and start what can start."""
        for run in list(self.desk.runs.values()):
            self.desk.plan_run(run, after(now))
        started = [self.desk.start(given, after(now)) for given in self.desk.assign(POOL, after(now))]
        for lease in started:
            lease.told = True
        return started

    def report(
        self, lease: LeaseId, n: int = 1, now: float = 0, attempt: Any = None, **result: Any
    ) -> list[FromController]:
        said = Report(lease=lease, attempt=attempt or an_attempt(), result=a_result(**result))
        return self.desk.hear(f"uid-agent-{n}", said, after(now))

    def state(self, run: str = "run", index: int = 0) -> Any:
        found = self.desk.run_named(NAMESPACE, run)
        assert found is not None
        return found.states[index]

    @property
    def awaiting(self) -> list[tuple[str, LeaseId]]:
        return list(self.desk.runs["uid-run"].awaiting)


def outcome(answers: list[FromController]) -> list[tuple[str, str]]:
    return [(answer.outcome, answer.reason) for answer in answers]  # type: ignore[union-attr]


def revoked(answers: list[FromController]) -> list[LeaseId]:
    welcome = answers[0]
    assert isinstance(welcome, Welcome)
    return welcome.revoked


def going(agents: int = 1, **task: Any) -> World:
    """A run that a former leader started: agent-1 has it, says its status."""
    return World(run_object("run", a_task_spec(**task), status=RUNNING), agents=agents, jobs=(job_object(),))


# From grant to verdict


def test_a_waiting_task_goes_to_an_agent_and_its_report_gives_the_verdict() -> None:
    world = World(run_object())
    world.hello()

    (lease,) = world.grant()
    assert (world.state().running, world.state().agent) == (True, "agent-1")
    assert world.report(lease.id) == []

    assert world.state().verdict is Verdict.PASSED
    assert world.awaiting == [("uid-agent-1", lease.id)]
    assert world.plan().status["verdict"] == "Passed"


def test_a_report_said_twice_is_accepted_once() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()

    world.report(lease.id)
    world.report(lease.id, exit_code=1)

    assert world.state().verdict is Verdict.PASSED
    assert world.awaiting == [("uid-agent-1", lease.id)]


def test_a_report_said_again_after_a_restart_is_accepted_as_it_stands_on_status() -> None:
    done = {"taskVerdicts": "F.", "tasks": [{"name": "unit", "index": 0, "attempt": 1, "verdict": "Failed"}]}
    world = World(run_object("run", a_task_spec(), a_task_spec("b"), status=done))
    finished = Finished(lease=OLDER, attempt=an_attempt(), result=a_result())

    world.hello(finished=[finished])

    assert world.state().verdict is Verdict.FAILED
    assert world.awaiting == [("uid-agent-1", OLDER)]


def test_a_report_of_another_attempt_is_refused() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()

    assert outcome(world.report(lease.id, attempt=an_attempt(attempt=2))) == [
        ("refused", "another attempt has taken its place")
    ]


def test_a_report_for_a_task_of_another_pool_is_refused() -> None:
    world = going(agents=2)

    answers = world.hello(2, pool="other", finished=[Finished(lease=OLDER, attempt=an_attempt(), result=a_result())])

    assert outcome(answers[1:]) == [("refused", "the run is finished or gone")]
    assert world.state().running


@pytest.mark.parametrize("index", [-1, 1, 10**6])
def test_a_report_for_a_task_that_the_run_does_not_have_is_refused(index: int) -> None:
    world = World(run_object())
    world.hello()

    assert outcome(world.report(OLDER, attempt=an_attempt(index=index)))[0][0] == "refused"


def test_a_retry_is_another_attempt_with_another_job() -> None:
    retry = {"tests": {"limit": 1}, "backoff": {"initial": "1s", "jitter": False}}
    world = World(run_object("run", a_task_spec(retry=retry)))
    world.hello()
    (first,) = world.grant()
    world.report(first.id, exit_code=1)

    assert world.grant(now=0.5) == []
    (second,) = world.grant(now=1)

    assert second.attempt.attempt == 2
    assert world.state().job != first
    world.report(second.id, attempt=second.attempt)
    assert world.state().verdict is Verdict.FLAKY


def test_a_verdict_never_changes() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()
    world.report(lease.id)
    run = world.desk.runs["uid-run"]

    late = a_result(None, infrastructure=Reason.JOB_REFUSED)
    world.desk.conclude(run, Finished(lease=lease.id, attempt=lease.attempt, result=late), after(5))

    assert world.state().verdict is Verdict.PASSED


def test_outputs_reach_the_tasks_that_need_them() -> None:
    world = World(run_object("run", a_task_spec("build", outputs=["version"]), a_task_spec("unit", needs=["build"])))
    world.hello()
    (lease,) = world.grant()

    world.report(lease.id, summary=a_summary(outputs={"version": "1.2"}))

    assert world.desk.runs["uid-run"].outputs == {0: {"version": "1.2"}}


# Progress


def test_progress_says_why_a_task_waits_and_when_its_test_began() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()

    said = Progress(lease=lease.id, attempt=lease.attempt, reason=Reason.IMAGE_PULL, message="no such image")
    world.desk.hear("uid-agent-1", said, after(1))
    assert (world.state().reason, world.state().message) == (Reason.IMAGE_PULL, "no such image")

    world.desk.hear("uid-agent-1", said.model_copy(update={"started_at": after(1.5)}), after(2))
    assert world.state().started_at == after(1.5)


@pytest.mark.parametrize(("by_the_node", "by_us"), [(after(3600), after(2)), (after(-3600), NOON)])
def test_a_node_whose_clock_is_wrong_by_an_hour_times_no_test_out(by_the_node: datetime, by_us: datetime) -> None:
    world = World(run_object("run", a_task_spec(timeout="10m")))
    world.hello()
    (lease,) = world.grant()

    said = Progress(lease=lease.id, attempt=lease.attempt, reason=Reason.RUNNING, started_at=by_the_node)
    world.desk.hear("uid-agent-1", said, after(2))

    assert world.state().started_at == by_us
    assert world.plan(now=300).actions == ()
    assert world.plan(now=700).actions


def test_a_run_that_was_created_by_a_clock_ahead_of_ours_has_begun_by_now_or_its_time_limit_would_wait() -> None:
    run = run_object("run", a_task_spec(), timeout="10m")
    run["metadata"]["creationTimestamp"] = format_time(after(3600))

    world = World(run, jobs=(job_object(),))

    assert world.plan(now=700).actions


def test_the_commit_that_the_first_task_found_is_the_runs() -> None:
    source = {"git": {"url": "https://example.org/repo"}}
    world = World(run_object("run", a_task_spec("a"), a_task_spec("b"), source=source))
    world.hello()
    (lease,) = world.grant()

    for commit in ("nonsense", "a" * 40, "b" * 40):
        said = Progress(lease=lease.id, attempt=lease.attempt, reason=Reason.RUNNING, commit=commit)
        world.desk.hear("uid-agent-1", said, NOON)

    assert world.plan().status["source"] == {"commit": "a" * 40}
    assert len(world.grant()) == 1


def test_a_full_commit_needs_nobody_to_find_it_out() -> None:
    source = {"git": {"url": "https://example.org/repo", "revision": "a" * 40}}
    world = World(run_object("run", a_task_spec("a"), a_task_spec("b"), source=source))
    world.hello()

    assert len(world.grant()) == 2


# Adoption and silence


def test_hello_adopts_what_the_agent_holds() -> None:
    world = going()

    answers = world.hello(holding=[Held(lease=OLDER, attempt=an_attempt())])

    assert revoked(answers) == []
    assert world.plan(now=60).ready == ()
    assert world.report(OLDER) == []
    assert world.state().verdict is Verdict.PASSED


def test_an_agent_must_forget_what_another_one_holds_or_what_is_over() -> None:
    world = going(agents=2)
    world.hello(1, holding=[Held(lease=OLDER, attempt=an_attempt())])

    other = Held(lease=LeaseId(term=1, number=4), attempt=an_attempt())
    gone = Held(lease=LeaseId(term=1, number=5), attempt=an_attempt("uid-nobody"))

    assert revoked(world.hello(2, holding=[other, gone])) == [other.lease, gone.lease]


def test_after_a_restart_a_task_waits_for_the_agent_on_its_status_and_then_looks_for_another() -> None:
    world = going(agents=2)
    world.hello(2)

    early = world.plan(now=14)
    assert (early.ready, early.check_again_at) == ((), after(19))
    assert [task.adopt for task in world.plan(now=15).ready] == [True]


def test_after_a_restart_a_task_whose_agents_pod_is_gone_looks_for_another_at_once() -> None:
    world = going(agents=2)
    world.hello(2)
    world.desk.drop_pod(pod_object("agent-1"))

    assert [lease.agent for lease in world.grant(now=1)] == ["uid-agent-2"]


def test_an_agent_that_is_back_without_the_task_frees_it_for_others() -> None:
    world = going()
    world.woken.clear()
    world.hello()

    assert Key("TestRun", NAMESPACE, "run") in world.woken
    assert len(world.grant(now=1)) == 1


def test_when_the_agents_pod_is_gone_another_agent_takes_the_same_job() -> None:
    world = World(run_object(), agents=2)
    world.hello(1)
    (first,) = world.grant()
    world.desk.see_job(job_object())
    world.hello(2)

    world.desk.drop_pod(pod_object("agent-1"))
    (second,) = world.grant(now=1)

    assert (second.agent, second.attempt) == ("uid-agent-2", first.attempt)
    assert outcome(world.report(first.id)) == []  # its agent is not there any more
    assert world.report(second.id, n=2) == []
    assert world.state().verdict is Verdict.PASSED


def test_silence_ends_a_lease_and_what_the_agent_says_later_is_refused() -> None:
    world = World(run_object(), agents=2)
    world.hello(1)
    (first,) = world.grant()
    world.desk.see_job(job_object())
    world.hello(2)
    world.desk.lose_session("uid-agent-1", after(3))

    assert world.desk.end_silent(after(14)) == []
    assert world.desk.end_silent(after(15)) == [first]
    (second,) = world.grant(now=16)
    back = world.hello(1, now=17, finished=[Finished(lease=first.id, attempt=first.attempt, result=a_result(1))])

    assert outcome(back[1:]) == [("refused", "the lease has ended")]
    world.report(second.id, n=2, now=18)
    assert outcome(world.report(first.id, now=19)) == [("refused", "the attempt has ended another way")]
    assert world.state().verdict is Verdict.PASSED


def test_an_agent_that_is_back_in_time_keeps_its_task() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()
    world.desk.lose_session("uid-agent-1", after(3))

    assert revoked(world.hello(now=10, holding=[Held(lease=lease.id, attempt=lease.attempt)])) == []
    assert world.desk.end_silent(after(20)) == []


def test_a_grant_that_never_arrived_is_free_again() -> None:
    world = World(run_object())
    world.hello()
    world.grant()
    world.desk.see_job(job_object())

    world.hello(now=1)

    assert [(lease.attempt.attempt) for lease in world.grant(now=1)] == [1]


def test_a_grant_that_was_not_sent_yet_is_not_missed() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()
    lease.told = False  # its start is still being recorded

    world.hello(now=1)

    assert world.desk.table.holder(lease.task) is lease


def test_work_under_a_lease_that_has_ended_is_revoked_when_its_agent_speaks() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()
    assert world.desk.hear("uid-agent-1", Alive(holding=[lease.id]), after(1)) == []

    world.desk.see_run(run_object(uid="another", version=2))  # deleted and created again, and nobody heard of the first

    (told,) = world.desk.hear("uid-agent-1", Alive(holding=[lease.id]), after(2))
    assert isinstance(told, Cancel)
    assert (told.lease, told.revoked) == (lease.id, True)


def test_what_a_former_leader_wrote_late_is_so() -> None:
    world = World(run_object("run", a_task_spec("a"), a_task_spec("b", exclusive=True)), agents=2)
    world.hello(1)
    world.desk.roster.pods["uid-agent-2"].ready = False
    world.grant()
    started = {"name": "b", "index": 1, "attempt": 1, "agent": "agent-2", "job": "job-1-1", "reason": "Starting"}
    late = {"term": 1, "taskVerdicts": "P.", "tasks": [started]}

    world.desk.see_run(run_object("run", a_task_spec("a"), a_task_spec("b", exclusive=True), status=late, version=2))

    assert world.state(index=0).verdict is Verdict.PASSED
    assert (world.state(index=1).attempt, world.state(index=1).agent) == (1, "agent-2")
    assert world.desk.table.of_agent("uid-agent-1") == ()


def test_the_lease_of_an_exclusive_task_stands_through_silence_and_says_so() -> None:
    world = World(run_object("run", a_task_spec(exclusive=True)), agents=2)
    world.hello(1)
    (lease,) = world.grant()
    world.desk.see_job(job_object())
    world.hello(2)
    world.desk.lose_session("uid-agent-1", after(1))

    assert world.desk.end_silent(after(600)) == []
    assert world.plan(now=600).status["tasks"][0]["reason"] == "AgentUnreachable"
    assert world.grant(now=600) == []

    world.hello(1, now=601, holding=[Held(lease=lease.id, attempt=lease.attempt)])
    assert world.plan(now=601).status["tasks"][0]["reason"] == "Starting"


def test_an_exclusive_task_goes_on_elsewhere_once_its_agents_pod_is_gone() -> None:
    world = going(agents=2, exclusive=True)
    world.hello(2)

    assert world.plan(now=600).status["tasks"][0]["reason"] == "AgentUnreachable"
    world.desk.drop_pod(pod_object("agent-1"))

    assert [lease.agent for lease in world.grant(now=601)] == ["uid-agent-2"]


def test_an_agent_that_comes_back_hears_of_a_stop_that_it_missed() -> None:
    world = World(run_object(cancelled=True, status=RUNNING), jobs=(job_object(),))
    world.plan()

    answers = world.hello(holding=[Held(lease=OLDER, attempt=an_attempt())])

    assert answers[1:] == [Cancel(lease=OLDER, reason=Reason.CANCELLED)]


def test_a_stopped_task_that_is_settled_without_its_report_frees_its_slot() -> None:
    world = World(run_object("run", a_task_spec("a"), a_task_spec("b", needs=["a"])))
    world.hello()
    world.grant()
    world.desk.see_run(run_object("run", a_task_spec("a"), a_task_spec("b", needs=["a"]), version=2, cancelled=True))
    world.desk.see_job(job_object())

    world.plan()
    assert world.desk.table.busy("uid-agent-1") == 1
    world.plan(now=90)
    assert (world.desk.table.busy("uid-agent-1"), world.state().verdict) == (0, Verdict.CANCELLED)


def test_an_agent_says_drained_only_when_it_was_asked_to_drain() -> None:
    world = World()
    world.hello()
    agent = world.desk.table.agents["uid-agent-1"]

    world.desk.hear("uid-agent-1", Drained(), NOON)
    assert not agent.drained
    agent.draining = True
    world.desk.hear("uid-agent-1", Drained(), NOON)
    assert agent.drained


# Runs that come, go and come again


def test_a_run_created_again_under_its_name_does_not_take_the_old_ones_result() -> None:
    world = World(run_object(uid="old"))
    world.hello()
    (lease,) = world.grant()
    world.desk.see_run(run_object(uid="new", version=5))

    assert outcome(world.report(lease.id, attempt=lease.attempt)) == [("refused", "the run is finished or gone")]
    assert world.state().verdict is None
    assert world.desk.table.busy("uid-agent-1") == 0


def test_a_late_event_of_a_run_that_is_over_does_not_bring_it_back() -> None:
    world = World(run_object())
    world.desk.drop_run("uid-run")

    world.desk.see_run(run_object(version=99))

    assert world.desk.run_named(NAMESPACE, "run") is None


def test_a_late_event_of_a_deleted_run_does_not_replace_the_one_created_after_it() -> None:
    world = World(run_object(uid="new", version=50))

    world.desk.see_run(run_object(uid="old", version=40))

    assert list(world.desk.runs) == ["new"]


def test_an_older_word_than_we_know_changes_nothing() -> None:
    world = World(run_object(version=7, cancelled=True))

    world.desk.see_run(run_object(version=6))

    assert world.plan().status["verdict"] == "Cancelled"


def test_people_may_change_priority_and_cancel() -> None:
    world = World(run_object())
    world.desk.see_run(run_object(version=2, priority="high"))
    assert [task.priority for task in world.plan().ready] == ["high"]

    world.desk.see_run(run_object(version=3, cancelled=True))
    assert world.plan().status["verdict"] == "Cancelled"


def test_a_run_that_ends_elsewhere_leaves_the_memory() -> None:
    world = World(run_object())
    world.plan()

    world.desk.see_run(run_object(version=2, status={"verdict": "Passed"}))

    assert (world.desk.runs, world.desk.queue_of(POOL)) == ({}, [])


# Jobs


@pytest.mark.parametrize("order", [("job", "run"), ("run", "job")])
def test_a_job_that_was_created_before_the_leader_died_is_under_way(order: tuple[str, str]) -> None:
    world = World()
    for what in order:
        if what == "job":
            world.desk.see_job(job_object())
        else:
            world.desk.see_run(run_object())
    world.hello()

    assert (world.state().running, world.state().attempt) == (True, 1)
    assert [lease.attempt.attempt for lease in world.grant(now=1)] == [1]


def test_a_job_of_an_attempt_that_is_over_is_deleted_beside_the_newest() -> None:
    world = World(run_object(), jobs=(job_object(attempt=2), job_object(attempt=1)))

    assert [action.name for action in world.plan().actions] == ["job-0-1"]


def test_a_grant_whose_job_could_not_be_created_is_taken_back() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()

    world.desk.take_back(lease)

    assert (world.state().attempt, world.state().running) == (0, False)
    assert [lease.attempt.attempt for lease in world.grant(now=1)] == [1]


def test_a_grant_is_not_taken_back_once_its_job_is_there() -> None:
    world = World(run_object())
    world.hello()
    (lease,) = world.grant()
    world.desk.take_back(lease)

    world.desk.see_job(job_object())

    assert (world.state().attempt, world.state().running) == (1, True)


def test_a_job_that_is_not_this_runs_child_is_nobodys() -> None:
    world = World(run_object())
    forged = job_object()
    forged["metadata"]["ownerReferences"] = []

    world.desk.see_job(forged)

    assert world.desk.runs["uid-run"].jobs == {}


def test_jobs_of_finished_runs_take_no_memory() -> None:
    world = World(run_object(), jobs=(job_object(),))
    world.desk.drop_run("uid-run")

    world.desk.see_job(job_object(attempt=2))
    world.desk.see_job(job_object("uid-other"))
    world.desk.drop_job(job_object("uid-other"))

    assert len(world.desk.jobs) == 0


# Groups


def grouped(name: str, uid: str, **group: Any) -> dict[str, Any]:
    return run_object(name, uid=uid, concurrency={"group": "g", "max": 1, **group})


def test_a_group_of_one_admits_one_although_both_were_planned_as_first() -> None:
    world = World(grouped("b", "uid-b"))
    world.hello()
    world.plan("b")
    world.desk.see_run(grouped("a", "uid-a"))
    world.plan("a")

    leases = [world.desk.start(given, NOON) for given in world.desk.assign(POOL, NOON)]

    assert len({lease.attempt.run_uid for lease in leases}) == 1


def test_the_next_run_of_a_group_enters_when_the_one_before_is_over() -> None:
    world = World(grouped("a", "uid-a"), grouped("b", "uid-b"))
    world.hello()
    assert [lease.attempt.run for lease in world.grant()] == ["a"]
    assert world.grant() == []

    world.desk.drop_run("uid-a")

    assert [lease.attempt.run for lease in world.grant()] == ["b"]


# Pools


def test_tasks_of_a_missing_pool_wait_for_it() -> None:
    world = World(run_object(pool="later"))
    assert world.plan().status["queue"]["reason"] == "PoolNotFound"

    world.woken.clear()
    world.desk.see_pool(pool_object("later"))

    assert Key("TestRun", NAMESPACE, "run") in world.woken
    assert [task.pool for task in world.plan(now=1).ready] == ["later"]


def test_a_pool_that_is_gone_for_a_moment_ends_no_old_run() -> None:
    world = World(run_object(created=after(-3600)))
    world.desk.drop_pool(NAMESPACE, "default")
    assert not world.plan(now=1).finished

    world.desk.see_pool(pool_object(uid="another"))
    world.plan(now=2)
    world.desk.drop_pool(NAMESPACE, "default")

    assert not world.plan(now=302).finished
    assert world.plan(now=602).status["verdict"] == "InfraError"


def test_a_pool_whose_spec_cannot_be_read_counts_as_missing_and_harms_nobody() -> None:
    world = World(run_object())

    world.desk.see_pool(pool_object(version=2, slots=0))

    assert world.plan().status["queue"]["reason"] == "PoolNotFound"


def test_the_pools_plan_counts_what_waits_and_runs() -> None:
    world = World(run_object("run", a_task_spec(matrix={"x": [str(n) for n in range(10)]})))
    world.hello()
    world.grant()

    status = world.desk.plan_pool(POOL, "t1", NOON).status

    assert (status["busySlots"], status["queuedTasks"], status["desiredAgents"]) == (2, 8, 3)
    assert world.desk.agent_states(POOL)["busy"] == 1
    assert world.desk.utilization(POOL) == 1


def test_tests_of_a_retried_task_are_counted_once_across_a_restart() -> None:
    retry = {"tests": {"limit": 1}, "backoff": {"initial": "0s"}}
    task = a_task_spec(retry=retry, results={"junit": ["*.xml"]})
    world = World(run_object("run", task, a_task_spec("b", needs=["unit"])))
    world.hello()
    (first,) = world.grant()
    world.report(first.id, exit_code=1, summary=a_summary(counts(passed=2, failed=1)))
    status = world.plan(now=2).status

    again = World(run_object("run", task, a_task_spec("b", needs=["unit"]), status=status))
    again.hello()
    (second,) = again.grant(now=20)
    again.report(second.id, attempt=second.attempt, summary=a_summary(counts(passed=3)), now=21)

    assert again.plan(now=22).status["tests"] == {"total": 3, "passed": 2, "failed": 0, "flaky": 1, "skipped": 0}


def test_of_two_pools_one_finds_out_the_commit() -> None:
    git = {"git": {"url": "https://example.org/repo"}}
    run = run_object("run", a_task_spec("a"), a_task_spec("b", pool="other"), source=git)
    world = World(run)
    world.desk.see_pool(pool_object("other"))
    world.desk.see_pod(pod_object("agent-2", "other"))
    world.hello()
    world.hello(2, pool="other")
    world.plan()

    started = [world.desk.start(given, NOON) for given in world.desk.assign(POOL, NOON)]

    assert [lease.attempt.index for lease in started] == [0]
    assert world.desk.assign((NAMESPACE, "other"), NOON) == ()


# Slots: what runs in an agent's own pod has no Job


def in_slots(*runs: dict[str, Any], **more: Any) -> World:
    """A world whose pool runs tasks in its agents' pods."""
    world = World(agents=more.pop("agents", 1))
    world.desk.see_pool(pool_object(version=9, executor="Process", slots=2))
    for run in runs or (run_object("run", WARM_TASK),):
        world.desk.see_run(run)
    return world


WARM_TASK = {"name": "unit", "run": "true"}
IN_SLOT = {"tasks": [{"name": "unit", "index": 0, "attempt": 1, "agent": "agent-1"}], "taskVerdicts": "."}


def test_a_task_in_a_slot_is_under_way_without_a_job() -> None:
    world = in_slots()
    world.hello()

    world.grant()

    assert (world.state().running, world.state().job, world.state().agent) == (True, None, "agent-1")


def test_a_new_leader_waits_for_the_agent_that_status_names_and_lets_it_go_on() -> None:
    world = in_slots(run_object("run", WARM_TASK, status=IN_SLOT))
    world.plan()
    assert world.state().running

    answers = world.hello(holding=[Held(lease=OLDER, attempt=an_attempt())])

    assert revoked(answers) == []
    assert world.desk.table.holder(("uid-run", 0)) is not None
    world.plan(now=30)
    assert world.state().running


def test_an_agent_that_has_forgotten_its_task_has_lost_it() -> None:
    world = in_slots(run_object("run", WARM_TASK, status=IN_SLOT))
    world.hello()

    world.plan()

    assert (world.state().running, world.state().infra_failures) == (False, 1)


def test_a_grant_that_a_former_leader_could_not_write_any_more_goes_on() -> None:
    world = in_slots()

    answers = world.hello(holding=[Held(lease=OLDER, attempt=an_attempt())])

    assert revoked(answers) == []
    assert (world.state().running, world.state().attempt) == (True, 1)
    assert world.grant() == []


def test_a_result_that_a_former_leader_could_not_take_any_more_counts() -> None:
    world = in_slots()

    world.hello(finished=[Finished(lease=OLDER, attempt=an_attempt(), result=a_result())])

    assert world.state().verdict is Verdict.PASSED
    assert world.awaiting == [("uid-agent-1", OLDER)]


def test_a_result_of_this_term_that_nobody_granted_does_not_count() -> None:
    world = in_slots()
    world.hello()

    answers = world.report(LeaseId(term=2, number=77))

    assert [answer.outcome for answer in answers] == ["refused"]  # type: ignore[union-attr]
    assert world.state().attempt == 0


def test_an_agent_gets_as_many_tasks_as_it_has_slots_that_work() -> None:
    world = in_slots(*(run_object(f"run-{n}", WARM_TASK) for n in range(3)))
    world.hello()
    world.desk.hear("uid-agent-1", Alive(slots=1), after(0))
    assert len(world.grant()) == 1

    world.desk.hear("uid-agent-1", Alive(slots=2), after(1))
    assert len(world.grant(now=1)) == 1
