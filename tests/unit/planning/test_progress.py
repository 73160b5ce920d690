"""How one report or loss moves a task on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON, Reason, Verdict, a_graph, a_result, a_summary, a_task_spec, after, counts, running
from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.progress import TaskState, concluded, retry_at, started
from dawg_orchestrator.planning.verdict import judge
from dawg_orchestrator.resources.model import format_duration
from dawg_orchestrator.resources.results import TaskResult
from dawg_orchestrator.resources.task import Backoff


def a_cell(infra: int = 3, tests: int = 0) -> Cell:
    retry = {"infra": {"limit": infra}, "tests": {"limit": tests}}
    return a_graph(a_task_spec(retry=retry, results={"junit": ["*.xml"]})).cells[0]


def end(state: TaskState, cell: Cell, result: TaskResult) -> TaskState:
    return concluded(state, cell, judge(cell.task, result, state.stopping), result, after(2))


FAILED = a_result(1, summary=a_summary(counts(passed=2, failed=1)))
PASSED = a_result(0, summary=a_summary(counts(passed=3)))
EVICTED = a_result(None, infrastructure=Reason.EVICTED)


def test_infrastructure_is_tried_again_as_often_as_its_limit_says() -> None:
    cell, state = a_cell(infra=2), running()
    for expected in (1, 2):
        state = end(state, cell, EVICTED)
        assert (state.verdict, state.running, state.infra_failures) == (None, False, expected)
        state = started(state, "agent-2", "job", NOON)

    assert end(state, cell, EVICTED).verdict is Verdict.INFRA_ERROR


def test_a_failed_test_does_not_use_up_retries_of_infrastructure() -> None:
    state = end(running(), a_cell(infra=3, tests=0), FAILED)

    assert (state.verdict, state.infra_failures) == (Verdict.FAILED, 0)


def test_infrastructure_that_would_only_fail_again_is_not_tried_again() -> None:
    assert end(running(), a_cell(), a_result(None, infrastructure=Reason.IMAGE_PULL)).verdict is Verdict.INFRA_ERROR


def test_a_pass_after_a_failure_is_flaky_and_so_are_the_tests_that_had_failed() -> None:
    cell = a_cell(tests=1)

    state = end(started(end(running(), cell, FAILED), "agent", "job", NOON), cell, PASSED)

    assert (state.verdict, state.reason) == (Verdict.FLAKY, Reason.FLAKY)
    assert state.counts == counts(passed=2, flaky=1)


def test_a_pass_after_infrastructure_failed_is_a_pass() -> None:
    cell = a_cell()

    assert end(started(end(running(), cell, EVICTED), "agent", "job", NOON), cell, PASSED).verdict is Verdict.PASSED


def test_a_second_failure_is_a_failure() -> None:
    cell = a_cell(tests=1)

    assert end(started(end(running(), cell, FAILED), "agent", "job", NOON), cell, FAILED).verdict is Verdict.FAILED


def test_a_task_that_timed_out_gets_its_retry_and_a_run_that_timed_out_none() -> None:
    cell, killed = a_cell(tests=1), a_result(None, killed=True)

    assert end(progress.stop(running(), Reason.TIMEOUT, NOON), cell, killed).verdict is None
    assert end(progress.stop(running(), Reason.RUN_TIMEOUT, NOON), cell, killed).verdict is Verdict.TIMED_OUT


@pytest.mark.parametrize("result", [FAILED, EVICTED, a_result(None, killed=True)])
def test_a_cancelled_attempt_is_never_tried_again(result: TaskResult) -> None:
    assert end(progress.stop(running(), Reason.CANCELLED, NOON), a_cell(tests=5), result).done


def test_an_attempt_that_ends_in_the_future_ends_now() -> None:
    state = end(running(), a_cell(), EVICTED.model_copy(update={"ended_at": after(9999)}))

    assert state.ended_at == after(2)


def test_a_grant_that_came_to_nothing_does_not_count() -> None:
    first = started(TaskState(), "agent", "job", NOON)

    assert progress.not_started(first) == TaskState()


def test_a_retry_that_came_to_nothing_still_waits_as_an_ended_attempt() -> None:
    retry = started(end(running(), a_cell(), EVICTED), "agent", "job", after(9))

    back = progress.not_started(retry)

    assert (back.attempt, back.running, back.infra_failures, back.ended_at) == (1, False, 1, after(9))


def test_a_first_attempt_waits_for_nothing() -> None:
    assert retry_at(TaskState(), Backoff(), "key") is None


@pytest.mark.parametrize(("failures", "seconds"), [(1, 5), (2, 10), (3, 20), (7, 300), (20, 300)])
def test_backoff_grows_by_its_factor_up_to_its_maximum(failures: int, seconds: int) -> None:
    state = TaskState(attempt=failures, infra_failures=failures, ended_at=NOON)

    assert retry_at(state, Backoff(jitter=False), "key") == after(seconds)


@given(
    failures=st.tuples(st.integers(0, 10), st.integers(0, 10)),
    initial=st.timedeltas(timedelta(), timedelta(days=30)),
    factor=st.integers(1, 10),
    longest=st.timedeltas(timedelta(), timedelta(days=30)),
    key=st.text(max_size=20),
)
def test_jitter_is_bounded_and_the_same_facts_give_the_same_time(
    failures: tuple[int, int], initial: timedelta, factor: int, longest: timedelta, key: str
) -> None:
    backoff = Backoff(initial=format_duration(initial), factor=factor, max=format_duration(longest))
    plain = backoff.model_copy(update={"jitter": False})
    state = TaskState(attempt=3, infra_failures=failures[0], test_failures=failures[1], ended_at=NOON)

    due, without = retry_at(state, backoff, key), retry_at(state, plain, key)

    assert due == retry_at(state, backoff, key)
    if due is None or without is None:
        assert failures == (0, 0)
        return
    wait, least = due - NOON, without - NOON
    assert least <= backoff.max
    assert least <= wait <= least * 1.2 + timedelta(microseconds=2)


def test_jitter_keeps_tasks_apart() -> None:
    state = TaskState(attempt=1, infra_failures=1, ended_at=NOON)

    assert len({retry_at(state, Backoff(), f"task-{n}") for n in range(50)}) > 20
