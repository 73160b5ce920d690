"""The way back after a restart: status and Jobs give the same plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import (
    LONG_AGO,
    NOON,
    Reason,
    Verdict,
    a_job_fact,
    a_run,
    a_task_spec,
    after,
    counts,
    ended,
    running,
    waiting,
)
from dawg_orchestrator.planning.facts import RunFacts
from dawg_orchestrator.planning.graph import Graph
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.restore import restore
from dawg_orchestrator.planning.testrun import plan_testrun


def restarted(facts: RunFacts, status: dict[str, Any], **changes: Any) -> RunFacts:
    """The facts as a new leader has them."""
    assert facts.graph is not None
    jobs = {index: (job.attempt, job.name) for index, job in facts.jobs.items()}
    restored = restore(facts.graph, status, jobs, after(600))
    from dataclasses import replace

    return replace(
        facts, states=restored.states, base_counts=restored.base_counts, base_failures=restored.base_failures,
        outputs=restored.outputs, written=status, **changes,
    )  # fmt: skip


_counts = st.builds(counts, passed=st.integers(0, 3), failed=st.integers(0, 3), flaky=st.integers(0, 2))
_verdicts = st.sampled_from(list(Verdict))
_reasons = st.sampled_from([Reason.CONDITION_FALSE, Reason.NEED_NOT_PASSED, Reason.NEED_SKIPPED])


@st.composite
def states(draw: st.DrawFn, index: int) -> TaskState:
    """Any state a task can be in between two plans."""
    kind = draw(st.sampled_from(["waiting", "running", "retry", "ended", "skipped"]))
    if kind == "waiting":
        return waiting()
    if kind == "skipped":
        return TaskState(verdict=Verdict.SKIPPED, reason=draw(_reasons), message="why", ended_at=NOON)
    attempt = draw(st.integers(1, 3))
    tests = draw(st.integers(0, attempt - 1)) if kind != "retry" else draw(st.integers(0, attempt))
    used = {"infra_failures": attempt - tests - (kind != "retry"), "test_failures": tests}
    job = f"job-{index}-{attempt}"
    if kind == "running":
        return running(attempt, job=job, failed_tests=draw(st.integers(0, 3)) if tests else 0, **used)
    if kind == "retry":
        failed = counts(failed=draw(st.integers(0, 3))) if tests else None
        return TaskState(
            attempt=attempt, job=job, ended_at=NOON, started_at=NOON, message="it failed: badly", counts=failed,
            failed_tests=failed.failed if failed else 0, exit_code=1, agent="agent-1", **used,
        )  # fmt: skip
    return ended(draw(_verdicts), attempt=attempt, job=job, counts=draw(st.none() | _counts), **used)


@st.composite
def runs(draw: st.DrawFn) -> RunFacts:
    """A run in the middle of its way."""
    size = draw(st.integers(1, 6))
    retry = {"infra": {"limit": 3}, "tests": {"limit": 3}}
    tasks = []
    for n in range(size):
        needs = draw(st.lists(st.sampled_from([f"t{m}" for m in range(n)]), unique=True, max_size=2)) if n else []
        tasks.append(a_task_spec(f"t{n}", needs=needs, retry=retry, critical=draw(st.booleans())))
    drawn = tuple(draw(states(n)) for n in range(size))
    jobs = {n: a_job_fact(n, state.attempt) for n, state in enumerate(drawn) if state.running or draw(st.booleans())}
    return a_run(
        *tasks, spec={"failFast": draw(st.booleans())}, states=drawn, started_at=NOON,
        jobs={n: job for n, job in jobs.items() if job.attempt},
        leased=frozenset(n for n, state in enumerate(drawn) if state.running),
    )  # fmt: skip


@given(runs())
def test_status_restored_and_planned_again_is_the_same_status(facts: RunFacts) -> None:
    first = plan_testrun(facts, after(1))
    settled = plan_testrun(restarted(facts, first.status), after(1))
    again = plan_testrun(restarted(facts, settled.status), after(1))

    assert settled.status == first.status
    assert again == plan_testrun(restarted(facts, again.status), after(1))


@given(runs())
def test_no_verdict_changes_in_a_restart(facts: RunFacts) -> None:
    first = plan_testrun(facts, after(1))

    again = plan_testrun(restarted(facts, first.status), after(1))

    assert [state.verdict for state in again.states] == [state.verdict for state in first.states]
    assert again.status["mergeBlocked"] == first.status["mergeBlocked"]
    assert [state.attempt for state in again.states] == [state.attempt for state in first.states]
    assert [(task.index, task.adopt) for task in again.ready] == [(task.index, task.adopt) for task in first.ready]


def a_thousand() -> RunFacts:
    """Half done: what ran has its verdict, some of it left out by its condition; the rest waits."""
    tasks = [a_task_spec(f"t{n}", when="true") for n in range(1000)]
    left_out = TaskState(verdict=Verdict.SKIPPED, reason=Reason.CONDITION_FALSE, ended_at=NOON)
    done = [ended(counts=counts(passed=2), job=f"job-{n}-1") for n in range(400)] + [left_out] * 300
    going = [running(job=f"job-{n}-1") for n in range(700, 720)]
    return a_run(
        *tasks, states=(*done, *going, *[waiting()] * 280), started_at=NOON, leased=frozenset(range(700, 720)),
        jobs={n: a_job_fact(n) for n in range(700, 720)},
    )  # fmt: skip


def test_of_a_thousand_tasks_none_that_is_done_runs_again() -> None:
    facts = a_thousand()
    first = plan_testrun(facts, after(1))

    again = plan_testrun(restarted(facts, first.status), after(1))

    assert again.status == first.status
    assert {task.index for task in again.ready} == set(range(720, 1000))
    assert again.status["tests"]["total"] == 800


def test_tasks_left_out_by_their_condition_block_no_merge_after_a_restart_either() -> None:
    left_out = TaskState(verdict=Verdict.SKIPPED, reason=Reason.CONDITION_FALSE, ended_at=NOON)
    tasks = [a_task_spec(f"t{n}") for n in range(600)]
    facts = a_run(*tasks, states=(ended(), *[left_out] * 599), started_at=NOON)
    status = {**plan_testrun(facts, NOON).status, "verdict": None}

    assert not plan_testrun(restarted(facts, status), NOON).status["mergeBlocked"]


def graph() -> Graph:
    found = a_run().graph
    assert found is not None
    return found


def test_a_job_newer_than_the_status_is_an_attempt_under_way() -> None:
    entry = {"name": "unit", "index": 0, "attempt": 1, "completionTime": "2026-01-05T12:00:00Z", "agent": "agent-1"}

    state = restore(graph(), {"tasks": [entry | {"retries": {"infra": 1}}]}, {0: (2, "job-0-2")}, after(600)).states[0]

    assert (state.attempt, state.running, state.job, state.infra_failures) == (2, True, "job-0-2", 1)
    assert state.agent is None


def test_without_any_status_a_job_shows_its_attempt() -> None:
    state = restore(graph(), {}, {0: (1, "job-0-1")}, after(600)).states[0]

    assert (state.attempt, state.running, state.job) == (1, True, "job-0-1")


def test_a_job_does_not_bring_a_finished_task_back() -> None:
    state = restore(graph(), {"taskVerdicts": "F"}, {0: (1, "job-0-1")}, after(600)).states[0]

    assert (state.verdict, state.running) == (Verdict.FAILED, False)


@pytest.mark.parametrize("written", [{}, {"tasks": [], "conditions": []}, {"taskVerdicts": ""}])
def test_a_run_nobody_has_looked_at_has_not_begun(written: dict[str, Any]) -> None:
    assert restore(graph(), written, {}, after(600)).states == (waiting(),)


def test_a_pass_after_a_failed_test_is_flaky_across_a_restart_too() -> None:
    entry = {"name": "unit", "index": 0, "attempt": 2, "retries": {"tests": 1}, "tests": {"total": 3, "failed": 3}}

    state = restore(graph(), {"tasks": [entry]}, {0: (2, "job-0-2")}, after(600)).states[0]

    assert (state.test_failures, state.failed_tests) == (1, 3)


def test_a_leader_of_long_ago_changes_nothing() -> None:
    facts = a_thousand()
    first = plan_testrun(facts, after(1)).status

    assert plan_testrun(restarted(facts, first, serving_since=LONG_AGO), after(1)).status == first
