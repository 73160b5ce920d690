"""What happens to a run next: its needs, conditions, limits and stops."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from builders import (
    LONG_AGO,
    NOON,
    Reason,
    Verdict,
    a_job_fact,
    a_pool,
    a_run,
    a_task_spec,
    after,
    ended,
    running,
    waiting,
)
from dawg_orchestrator.planning.facts import PoolFact, RunFacts
from dawg_orchestrator.planning.plan import DeleteJob, RunPlan, StopAttempt
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.settle import POOL_GRACE, STOP_GRACE
from dawg_orchestrator.planning.testrun import plan_testrun

BUILD, UNIT = a_task_spec("build"), a_task_spec("unit", needs=["build"])
GIT = {"source": {"git": {"url": "https://example.org/repo", "revision": "main"}}}


def ready(plan: RunPlan) -> list[int]:
    return [task.index for task in plan.ready]


def ends(plan: RunPlan) -> list[tuple[str, str]]:
    return [(state.verdict.value, state.reason.value) for state in plan.states if state.verdict and state.reason]


def stops(plan: RunPlan) -> list[tuple[int, str]]:
    return [(action.index, action.reason.value) for action in plan.actions if isinstance(action, StopAttempt)]


def reason_of(plan: RunPlan, index: int) -> str:
    entry = next(entry for entry in plan.status["tasks"] if entry["index"] == index)
    return str(entry["reason"])


# Needs and conditions


def test_a_task_waits_for_what_it_needs() -> None:
    plan = plan_testrun(a_run(BUILD, UNIT), NOON)

    assert ready(plan) == [0]
    assert reason_of(plan, 1) == "WaitingForNeeds"


def test_a_task_is_ready_once_all_cells_of_its_need_have_passed() -> None:
    build = a_task_spec("build", matrix={"os": ["a", "b"]})

    half = plan_testrun(a_run(build, UNIT, states=(ended(), running(), waiting()), leased=frozenset({1})), NOON)
    whole = plan_testrun(a_run(build, UNIT, states=(ended(), ended(Verdict.FLAKY), waiting())), NOON)

    assert (ready(half), ready(whole)) == ([], [2])


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR, Verdict.CANCELLED])
def test_a_need_that_did_not_pass_skips_all_that_come_after(verdict: Verdict) -> None:
    last = a_task_spec("last", needs=["unit"])

    plan = plan_testrun(a_run(BUILD, UNIT, last, states=(ended(verdict), waiting(), waiting())), NOON)

    assert ends(plan)[1:] == [("Skipped", "NeedNotPassed")] * 2
    assert plan.finished
    assert plan.status["verdict"] == verdict.value
    assert plan.status["mergeBlocked"]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("tasks['build-image'].verdict == 'Failed'", "ready"),
        ("tasks['build-image'].verdict == 'Passed'", "NeedNotPassed"),
        ("params.suite == 'smoke'", "ready"),
    ],
)
def test_a_condition_decides_in_place_of_the_needs(when: str, expected: str) -> None:
    plan = plan_testrun(conditional(when, ended(Verdict.FAILED)), NOON)

    assert ("ready" if ready(plan) == [1] else reason_of(plan, 1)) == expected


@pytest.mark.parametrize(
    "when",
    ["params.suite", "params.nothing == 'x'", "tasks.build-image.verdict == 'Failed'", "tasks['other'].verdict == ''"],
)
def test_a_condition_that_cannot_be_evaluated_fails_the_task_unless_its_need_is_at_fault(when: str) -> None:
    own_fault = plan_testrun(conditional(when, ended()), NOON)
    needs_fault = plan_testrun(conditional(when, ended(Verdict.FAILED)), NOON)

    assert ends(own_fault)[1] == ("Failed", "InvalidSpec")
    assert ends(needs_fault)[1] == ("Skipped", "NeedNotPassed")


def conditional(when: str, build: TaskState) -> RunFacts:
    """A task with a condition after another one."""
    tasks = a_task_spec("build-image"), a_task_spec("unit", needs=["build-image"], when=when)
    return a_run(*tasks, spec={"parameters": {"suite": "smoke"}}, states=(build, waiting()))


def test_a_condition_sees_outputs_of_earlier_tasks() -> None:
    unit = a_task_spec("unit", needs=["build"], when="tasks['build'].outputs.changed == 'yes'")
    facts = a_run(BUILD, unit, states=(ended(), waiting()), outputs={0: {"changed": "yes"}})

    assert ready(plan_testrun(facts, NOON)) == [1]


def test_a_task_left_out_by_its_condition_takes_those_along_that_need_it_and_blocks_no_merge() -> None:
    docs = a_task_spec("docs", when="params.suite == 'docs'")
    facts = a_run(
        docs, a_task_spec("publish", needs=["docs"]), a_task_spec("unit"), spec={"parameters": {"suite": "smoke"}},
        states=(waiting(), waiting(), ended()),
    )  # fmt: skip

    plan = plan_testrun(facts, NOON)

    assert ends(plan)[:2] == [("Skipped", "ConditionFalse"), ("Skipped", "NeedSkipped")]
    assert plan.status["verdict"] == "Passed"
    assert not plan.status["mergeBlocked"]


def test_a_false_condition_does_not_hide_a_need_that_failed() -> None:
    deploy = a_task_spec("deploy", needs=["build"], when="tasks['build'].verdict == 'Passed'", critical=True)
    other = a_task_spec("lint", critical=True)

    plan = plan_testrun(a_run(BUILD, deploy, other, states=(ended(Verdict.FAILED), waiting(), ended())), NOON)

    assert plan.status["mergeBlocked"]


def test_a_run_whose_tasks_were_all_skipped_ran_nothing() -> None:
    plan = plan_testrun(a_run(a_task_spec("a", when="false")), NOON)

    assert plan.status["verdict"] == "Skipped"
    assert plan.status["mergeBlocked"]


# failFast


def test_fail_fast_skips_what_waits_and_stops_what_runs() -> None:
    tasks = [a_task_spec(name) for name in "abc"]
    states = (ended(Verdict.FAILED), running(), waiting())

    plan = plan_testrun(a_run(*tasks, spec={"failFast": True}, states=states, leased=frozenset({1})), NOON)

    assert stops(plan) == [(1, "FailFast")]
    assert ends(plan)[1] == ("Skipped", "FailFast")


def test_fail_fast_heeds_a_task_that_fails_in_this_very_step() -> None:
    facts = a_run(
        a_task_spec("a", when="params.x"), a_task_spec("b"), spec={"failFast": True, "parameters": {"x": "1"}}
    )

    plan = plan_testrun(facts, NOON)

    assert (ready(plan), plan.finished) == ([], True)
    assert ends(plan) == [("Failed", "InvalidSpec"), ("Skipped", "FailFast")]


def test_fail_fast_does_not_call_a_task_skipped_that_has_run() -> None:
    failed_once = running(infra_failures=1, ended_at=NOON, agent=None)
    states = (ended(Verdict.FAILED), type(failed_once)(attempt=1, infra_failures=1, ended_at=NOON))

    plan = plan_testrun(a_run(a_task_spec("a"), a_task_spec("b"), spec={"failFast": True}, states=states), NOON)

    assert ends(plan)[1] == ("Cancelled", "FailFast")


# Cancel and time-outs


def test_cancel_ends_what_waits_and_stops_what_runs() -> None:
    facts = a_run(
        a_task_spec("a"), a_task_spec("b"), spec={"cancelled": True}, states=(running(), waiting()),
        leased=frozenset({0}), jobs={0: a_job_fact()},
    )  # fmt: skip

    plan = plan_testrun(facts, NOON)

    assert stops(plan) == [(0, "Cancelled")]
    assert ends(plan) == [("Cancelled", "Cancelled")]
    assert ready(plan) == []


def test_a_stop_is_asked_for_once_in_a_step() -> None:
    facts = a_run(spec={"cancelled": True}, states=(running(),), leased=frozenset({0}), jobs={0: a_job_fact()})

    assert len(plan_testrun(facts, NOON).actions) == 1


def test_a_job_that_came_to_be_after_its_stop_is_stopped_too() -> None:
    stopped = running(stopping=Reason.CANCELLED, stopped_at=NOON)

    facts = a_run(spec={"cancelled": True}, states=(stopped,), leased=frozenset({0}), jobs={0: a_job_fact()})

    assert stops(plan_testrun(facts, after(1))) == [(0, "Cancelled")]


def test_a_stopped_attempt_waits_for_its_report_until_the_grace_is_over() -> None:
    stopped = running(stopping=Reason.CANCELLED, stopped_at=NOON)
    facts = a_run(states=(stopped,), leased=frozenset({0}), jobs={0: a_job_fact(deleting=True)})
    due = NOON + STOP_GRACE

    early, late = plan_testrun(facts, due - timedelta(seconds=1)), plan_testrun(facts, due)

    assert (early.finished, early.check_again_at) == (False, due)
    assert ends(late) == [("Cancelled", "Cancelled")]


def test_a_stopped_attempt_without_agent_and_job_is_settled_at_once() -> None:
    plan = plan_testrun(a_run(spec={"cancelled": True}, states=(running(),)), NOON)

    assert plan.status["verdict"] == "Cancelled"


def test_the_run_timeout_stops_all_and_names_itself() -> None:
    facts = a_run(
        a_task_spec("a"), a_task_spec("b"), spec={"timeout": "10m"}, states=(running(), waiting()),
        leased=frozenset({0}), jobs={0: a_job_fact()}, started_at=NOON,
    )  # fmt: skip

    before, due = plan_testrun(facts, after(599)), plan_testrun(facts, after(600))

    assert (stops(before), before.check_again_at) == ([], after(600))
    assert stops(due) == [(0, "RunTimeout")]
    assert ends(due) == [("TimedOut", "RunTimeout")]
    assert "timeout of 10m " in due.states[1].message


def test_a_run_that_has_not_begun_does_not_time_out() -> None:
    assert not plan_testrun(a_run(spec={"timeout": "1s"}), after(3600)).finished


@pytest.mark.parametrize(("task", "pool", "due"), [("5m", "1h", 300), ("2h", "1h", 3600), (None, "10m", 600)])
def test_a_task_runs_no_longer_than_its_timeout_and_its_pool_allow(task: str | None, pool: str, due: int) -> None:
    pools = {"default": PoolFact(a_pool(maxTaskDuration=pool), Reason.WAITING_FOR_AGENT, "")}
    unit = a_task_spec(**({"timeout": task} if task else {}))
    facts = a_run(unit, states=(running(),), leased=frozenset({0}), jobs={0: a_job_fact()}, pools=pools)

    assert stops(plan_testrun(facts, after(due - 1))) == []
    assert plan_testrun(facts, NOON).check_again_at == after(due)
    assert stops(plan_testrun(facts, after(due))) == [(0, "Timeout")]


def test_a_test_that_has_not_begun_uses_up_none_of_its_timeout() -> None:
    starting = running(started_at=None)
    facts = a_run(a_task_spec(timeout="1m"), states=(starting,), leased=frozenset({0}), jobs={0: a_job_fact()})

    assert stops(plan_testrun(facts, after(3600))) == []


# Pools


def test_a_missing_pool_is_waited_for_and_then_named() -> None:
    facts = a_run(pools={"default": None})
    due = NOON + POOL_GRACE

    early, late = plan_testrun(facts, NOON), plan_testrun(facts, due)

    assert (reason_of(early, 0), early.check_again_at) == ("PoolNotFound", due)
    assert "create it or name another" in early.status["queue"]["message"]
    assert ends(late) == [("InfraError", "PoolNotFound")]


def test_a_pool_that_is_replaced_ends_no_old_run() -> None:
    facts = a_run(created=LONG_AGO, pools={"default": None}, pools_missing_since={"default": NOON})

    assert not plan_testrun(facts, after(60)).finished
    assert plan_testrun(facts, NOON + POOL_GRACE).finished


def test_a_running_task_whose_pool_and_agent_are_gone_ends_as_infrastructure() -> None:
    facts = a_run(states=(running(),), jobs={0: a_job_fact()}, pools={"default": None})

    plan = plan_testrun(facts, NOON + POOL_GRACE)
    settled = plan_testrun(a_run(states=plan.states, pools={"default": None}), NOON + POOL_GRACE)

    assert stops(plan) == [(0, "PoolNotFound")]
    assert ends(settled) == [("InfraError", "PoolNotFound")]


@pytest.mark.parametrize(
    ("pool", "task", "expected"),
    [
        ({"executor": "Builtin"}, {}, ("Failed", "InvalidSpec")),
        ({"trust": "untrusted"}, {"secrets": [{"name": "s", "key": "k", "env": "E"}]}, ("Failed", "InvalidSpec")),
    ],
)
def test_a_pool_that_can_never_run_a_task_says_so_at_once(
    pool: dict[str, Any], task: dict[str, Any], expected: tuple[str, str]
) -> None:
    pools = {"default": PoolFact(a_pool(**pool), Reason.WAITING_FOR_AGENT, "")}

    assert ends(plan_testrun(a_run(a_task_spec(**task), pools=pools), NOON)) == [expected]


STRANGERS = {"source": {"git": {"url": "https://example.org/r", "revision": "a" * 40}, "untrusted": True}}


@pytest.mark.parametrize(
    ("trust", "expected"), [("trusted", [("Failed", "InvalidSpec")]), ("untrusted", [])]
)  # fmt: skip
def test_a_strangers_source_runs_nothing_but_in_an_untrusted_pool(trust: str, expected: list[tuple[str, str]]) -> None:
    pools = {"default": PoolFact(a_pool(trust=trust), Reason.WAITING_FOR_AGENT, "")}

    plan = plan_testrun(a_run(a_task_spec(), spec=STRANGERS, pools=pools), NOON)

    assert [end for end in ends(plan) if end[0]] == expected
    if expected:
        assert "name a pool whose trust is untrusted" in plan.states[0].message


GIT_WITH_SECRET = {"source": {"git": {"url": "https://example.org/r", "credentialsSecretRef": {"name": "git"}}}}


@pytest.mark.parametrize(
    ("task", "spec", "field"),
    [
        ({"image": "mine"}, {}, "tasks[unit].image"),
        ({"resources": {"limits": {"cpu": "1"}}}, {}, "tasks[unit].resources"),
        ({"services": [{"name": "db", "image": "postgres"}]}, {}, "tasks[unit].services"),
        ({"scheduling": {"nodeSelector": {"a": "b"}}}, {}, "tasks[unit].scheduling"),
        ({"secrets": [{"name": "s", "key": "k", "env": "E"}]}, {}, "tasks[unit].secrets"),
        ({"onFailure": {"hold": "5m"}}, {}, "tasks[unit].onFailure.hold"),
        ({}, GIT_WITH_SECRET, "source.git.credentialsSecretRef"),
    ],
)
def test_what_only_a_pod_of_its_own_could_have_is_refused_in_a_slot_by_its_field(
    task: dict[str, Any], spec: dict[str, Any], field: str
) -> None:
    pools = {"default": PoolFact(a_pool(executor="Process"), Reason.WAITING_FOR_AGENT, "")}
    wanted = {"name": "unit", "run": "true", **task}

    plan = plan_testrun(a_run(wanted, spec=spec, pools=pools), NOON)

    assert ends(plan) == [("Failed", "InvalidSpec")]
    assert plan.states[0].message.startswith(f"{field}: ")
    assert "pool 'default'" in plan.states[0].message


def test_a_git_secret_that_the_pools_agents_hold_may_be_named() -> None:
    pool = a_pool(executor="Process", warm={"gitSecrets": [{"name": "git"}]})
    pools = {"default": PoolFact(pool, Reason.WAITING_FOR_AGENT, "")}

    assert len(plan_testrun(a_run({"name": "unit", "run": "true"}, spec=GIT_WITH_SECRET, pools=pools), NOON).ready) == 1


IN_SLOT = {"job": None, "agent": "agent-1"}


def test_what_ran_in_a_slot_is_lost_with_its_lease_and_tried_again() -> None:
    plan = plan_testrun(a_run(states=(running(**IN_SLOT),)), NOON)

    (state,) = plan.states
    assert (state.running, state.verdict, state.reason, state.infra_failures) == (False, None, Reason.AGENT_LOST, 1)
    assert "agent-1" in state.message


def test_what_runs_in_a_slot_of_an_agent_that_may_come_back_is_waited_for() -> None:
    facts = a_run(states=(running(**IN_SLOT),), awaited=frozenset({0}), serving_since=NOON)

    plan = plan_testrun(facts, NOON)

    assert plan.states[0].running
    assert plan.check_again_at is not None


# Source


def test_a_pool_that_stands_still_does_not_hold_up_the_others_for_the_commit() -> None:
    paused = PoolFact(a_pool(paused=True), Reason.POOL_PAUSED, "")
    free = PoolFact(a_pool(), Reason.STARTING, "")
    tasks = (a_task_spec("a", pool="still"), a_task_spec("b", pool="still"), a_task_spec("c"))

    plan = plan_testrun(a_run(*tasks, spec=GIT, pools={"default": free, "still": paused}), NOON)

    assert [task.index for task in plan.ready] == [0, 2]


def test_one_task_finds_out_the_commit_and_the_others_wait_for_it() -> None:
    first = plan_testrun(a_run(a_task_spec("a"), a_task_spec("b"), spec=GIT), NOON)
    meanwhile = plan_testrun(
        a_run(a_task_spec("a"), a_task_spec("b"), spec=GIT, states=(running(), waiting()), leased=frozenset({0})), NOON
    )
    known = plan_testrun(a_run(a_task_spec("a"), a_task_spec("b"), spec=GIT, commit="c" * 40), NOON)

    assert (ready(first), reason_of(first, 1)) == ([0], "ResolvingRevision")
    assert (ready(meanwhile), reason_of(meanwhile, 1)) == ([], "ResolvingRevision")
    assert ready(known) == [0, 1]


# Jobs and agents


def test_a_job_without_an_agent_looks_for_another_one() -> None:
    plan = plan_testrun(a_run(states=(running(),), jobs={0: a_job_fact()}), NOON)

    assert [(task.index, task.adopt) for task in plan.ready] == [(0, True)]


def test_a_job_whose_agent_may_come_back_waits_for_it() -> None:
    facts = a_run(states=(running(),), jobs={0: a_job_fact()}, serving_since=NOON, awaited=frozenset({0}))

    plan = plan_testrun(facts, after(1))

    assert (ready(plan), plan.check_again_at) == ([], after(15))


def test_an_attempt_whose_job_is_gone_and_that_nobody_holds_is_lost_and_tried_again() -> None:
    plan = plan_testrun(a_run(states=(running(),)), after(10))

    assert (plan.states[0].running, plan.states[0].infra_failures) == (False, 1)
    assert plan.states[0].reason is Reason.POD_DELETED
    assert reason_of(plan, 0) == "RetryBackoff"


def test_a_lost_job_is_lost_after_a_restart_too_although_nobody_knows_when_it_was_granted() -> None:
    facts = a_run(states=(running(granted_at=None, started_at=None),), serving_since=NOON)

    early, late = plan_testrun(facts, after(14)), plan_testrun(facts, after(16))

    assert early.states[0].running
    assert not late.states[0].running


def test_a_lost_job_without_retries_left_is_an_infrastructure_error() -> None:
    unit = a_task_spec(retry={"infra": {"limit": 0}})

    assert ends(plan_testrun(a_run(unit, states=(running(),)), after(10))) == [("InfraError", "PodDeleted")]


def test_a_retry_waits_for_its_backoff() -> None:
    unit = a_task_spec(retry={"backoff": {"initial": "8s", "jitter": False}})
    lost = running(infra_failures=1, ended_at=NOON)
    facts = a_run(unit, states=(type(lost)(attempt=1, infra_failures=1, ended_at=NOON, message="evicted"),))

    early = plan_testrun(facts, after(7))

    assert (ready(early), early.check_again_at) == ([], after(8))
    assert early.status["queue"]["message"] == "attempt 2 starts at 2026-01-05T12:00:08Z: evicted"
    assert ready(plan_testrun(facts, after(8))) == [0]


def test_an_exclusive_task_is_tried_again_only_when_the_job_before_is_gone() -> None:
    state = type(waiting())(attempt=1, infra_failures=1, ended_at=LONG_AGO)
    facts = {"states": (state,), "created": NOON}
    exclusive = a_task_spec(exclusive=True)

    assert ready(plan_testrun(a_run(exclusive, jobs={0: a_job_fact(deleting=True)}, **facts), NOON)) == []
    assert ready(plan_testrun(a_run(exclusive, older_jobs=(a_job_fact(),), **facts), NOON)) == []
    assert ready(plan_testrun(a_run(exclusive, **facts), NOON)) == [0]


def test_an_exclusive_task_with_a_silent_agent_says_so_until_the_agent_answers() -> None:
    facts = {"jobs": {0: a_job_fact()}, "leased": frozenset({0})}
    silent = plan_testrun(a_run(states=(running(),), unreachable=frozenset({0}), **facts), NOON)
    back = plan_testrun(a_run(states=silent.states, **facts), NOON)

    assert reason_of(silent, 0) == "AgentUnreachable"
    assert "its pod is deleted" in silent.states[0].message
    assert reason_of(back, 0) == "Running"


@pytest.mark.parametrize(
    ("state", "deleted"),
    [
        (ended(), True),
        (ended(log_stored=False), False),
        (ended(Verdict.FAILED, exit_code=1), False),
        (ended(Verdict.FAILED, exit_code=1, attempt=2), True),
        (ended(Verdict.INFRA_ERROR, Reason.UNSCHEDULABLE, exit_code=None, log_stored=False), True),
        (ended(Verdict.CANCELLED, exit_code=None, log_stored=False), True),
        (waiting(), True),
        (running(), False),
    ],
    ids=["passed", "log not stored", "failed", "earlier attempt", "never started", "cancelled", "not ours", "running"],
)
def test_a_job_stays_as_long_as_somebody_needs_it(state: Any, deleted: bool) -> None:
    plan = plan_testrun(a_run(states=(state,), jobs={0: a_job_fact()}), NOON)

    assert (DeleteJob("job-0-1", "job-uid-0-1") in plan.actions) == deleted


def test_jobs_of_attempts_before_the_newest_are_deleted() -> None:
    older = a_job_fact(attempt=1)

    plan = plan_testrun(
        a_run(
            states=(running(attempt=2),), jobs={0: a_job_fact(attempt=2)}, older_jobs=(older,), leased=frozenset({0})
        ),
        NOON,
    )

    assert plan.actions == (DeleteJob(older.name, older.uid),)


def test_the_same_facts_give_the_same_plan() -> None:
    facts = a_run(BUILD, UNIT, spec={"failFast": True}, states=(running(), waiting()), jobs={0: a_job_fact()})

    assert plan_testrun(facts, after(5)) == plan_testrun(facts, after(5))


def test_an_invalid_run_ends_failed_with_its_reason() -> None:
    facts = a_run(graph=None, states=(), invalid=(Reason.INVALID_SPEC, "spec.tasks: no"))

    plan = plan_testrun(facts, NOON)

    assert plan.finished
    assert (plan.status["verdict"], plan.status["mergeBlocked"]) == ("Failed", True)
    assert {c["reason"] for c in plan.status["conditions"] if c["type"] in ("Failed", "MergeAllowed")} == {
        "InvalidSpec"
    }
