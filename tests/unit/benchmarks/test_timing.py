"""The simulation by which smart Schedules are measured."""

from __future__ import annotations

import random

import pytest

from benchmarks import timing
from benchmarks.timing import Arm


def test_tasks_are_served_in_the_order_in_which_they_come() -> None:
    assert timing._serve([(0.0, 10.0, ""), (1.0, 10.0, ""), (2.0, 1.0, "nightly")], [0.0, 0.0]) == [0.0, 1.0, 10.0]


def test_others_take_as_much_of_the_pool_as_the_load_says() -> None:
    days = timing._background(random.Random(1), flat=True)  # noqa: S311 - always the same

    held = sum(seconds for day in days for _, seconds, _ in day)
    assert held / (len(days) * 86400 * timing._SLOTS) == pytest.approx(timing._FLAT, rel=0.05)


def test_a_smart_start_is_within_its_window_and_the_load_is_learnt_from_what_has_been() -> None:
    arm = Arm()
    days = timing._background(random.Random(1), flat=False)[:22]  # noqa: S311 - always the same
    for day, tasks in enumerate(days[:21]):
        timing._pass_day(arm, day, list(timing._with_runs(tasks, timing._at_due_times(day))))

    starts = timing._smart("Quiet", 21, arm)

    due = timing._at_due_times(21)
    assert all(0 <= starts[name] - due[name] < timing._WINDOW for name in due)
    assert starts != due
