"""Urgent first, then who has waited longest."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NAMESPACE, NOON, after
from dawg_orchestrator.planning.order import QueuedTask, estimate_wait, level, order, read_place

TEN_MINUTES = timedelta(minutes=10)


def queued(run: str = "run", priority: str = "medium", waited: float = 0, **fields: Any) -> QueuedTask:
    """A task that has waited so many seconds at noon."""
    known = {"namespace": NAMESPACE, "run": run, "run_uid": f"uid-{run}", "index": 0, "pool": "default"}
    return QueuedTask(**(known | {"priority": priority, "since": after(-waited)} | fields))


def names_of(tasks: list[QueuedTask]) -> list[str]:
    return [task.run for task in tasks]


def test_critical_goes_before_high_before_medium_before_low() -> None:
    tasks = [queued(name, name) for name in ("low", "critical", "medium", "high")]

    assert names_of(order(tasks, TEN_MINUTES, NOON)) == ["critical", "high", "medium", "low"]


@pytest.mark.parametrize(
    ("priority", "minutes", "expected"),
    [
        ("low", 0, 3), ("low", 10, 2), ("low", 20, 1), ("low", 1000, 1), ("medium", 9, 2), ("medium", 10, 1),
        ("high", 600, 1), ("critical", 0, 0),
    ],
)  # fmt: skip
def test_a_waiting_task_rises_one_level_per_aging_and_never_into_critical(
    priority: str, minutes: int, expected: int
) -> None:
    assert level(queued("run", priority, minutes * 60), TEN_MINUTES, NOON) == expected


def test_aging_of_zero_turns_it_off() -> None:
    assert level(queued("run", "low", 10**6), timedelta(), NOON) == 3


def test_of_one_level_the_older_run_goes_first() -> None:
    tasks = [queued("younger", waited=1), queued("older", waited=2)]

    assert names_of(order(tasks, TEN_MINUTES, NOON)) == ["older", "younger"]


def test_a_job_that_wants_another_agent_goes_before_everything() -> None:
    tasks = [queued("urgent", "critical", 10**5), queued("orphan", "low", adopt=True)]

    assert names_of(order(tasks, TEN_MINUTES, NOON)) == ["orphan", "urgent"]


def test_of_one_level_recommended_tests_go_first_and_no_level_is_passed_by_them() -> None:
    tasks = [queued("medium", recommended=1), queued("older", "high", 9), queued("high", "high", recommended=7),
             queued("critical", "critical")]  # fmt: skip

    assert names_of(order(tasks, TEN_MINUTES, NOON)) == ["critical", "high", "older", "medium"]


def test_recommended_runs_of_one_second_go_by_their_place_and_else_the_older_one_goes_first() -> None:
    tasks = [queued("a", recommended=2), queued("b", recommended=1), queued("older", waited=1, recommended=9)]
    patient = [queued("a", waited=600), queued("b", waited=600, recommended=1)]

    assert names_of(order(tasks, TEN_MINUTES, NOON)) == ["older", "b", "a"]
    assert names_of(order(patient, TEN_MINUTES, NOON)) == ["b", "a"]


@pytest.mark.parametrize("priority", ["critical", "high"])
def test_nobody_waits_for_ever_behind_recommended_tests(priority: str) -> None:
    """Where no level is left to rise to, either."""
    tasks = [queued("recommended", priority, 599, recommended=1), queued("patient", priority, 600),
             queued("young", priority, 599)]  # fmt: skip

    assert names_of(order(tasks, TEN_MINUTES, NOON)) == ["patient", "recommended", "young"]


@pytest.mark.parametrize(("text", "place"), [
    ("1", 1), ("50", 50), ("0", 0), ("", 0), ("-1", 0), ("first", 0), ("²", 0), ("9999", 0),
])  # fmt: skip
def test_what_an_annotation_says_of_a_place(text: str, place: int) -> None:
    assert read_place(text) == place


@given(
    st.lists(
        st.tuples(st.sampled_from(["critical", "high", "medium", "low"]), st.integers(0, 5000), st.integers(0, 3)),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_does_not_depend_on_how_the_queue_was_listed(
    drawn: list[tuple[str, int, int]], shuffler: random.Random
) -> None:
    tasks = [
        queued(f"r{n}", priority, waited, index=index, recommended=index % 3)
        for n, (priority, waited, index) in enumerate(drawn)
    ]
    shuffled = list(tasks)
    shuffler.shuffle(shuffled)

    assert order(tasks, TEN_MINUTES, NOON) == order(shuffled, TEN_MINUTES, NOON)


def test_an_estimate_spreads_the_work_ahead_over_the_slots() -> None:
    assert estimate_wait([(60, 120), (60, 120)], [(20, 40)], 2) == (65, 130)


def test_without_slots_there_is_no_estimate() -> None:
    assert estimate_wait([(60, 120)], [], 0) is None
