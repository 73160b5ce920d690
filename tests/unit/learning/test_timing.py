"""When pools are busy, learnt from runs, and which start within a window is best."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from dawg_orchestrator.learning.timing import (
    CELL_SECONDS,
    Expected,
    Forecast,
    Span,
    Work,
    choose_start,
    learn_loads,
    load_key,
    taken_by,
)
from dawg_orchestrator.resources.protocol import PoolLoad, ScheduleLoad

POOL = load_key("team", "default")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MIDNIGHT = NOON - 12 * HOUR  # of a Monday
RUN = timedelta(minutes=30)


def work(start: datetime, hours: float, slots: float, schedule: str | None = None, pool: str = POOL) -> Work:
    """A run that holds so many slots for so long."""
    first = int(start.timestamp()) // CELL_SECONDS
    seconds = hours * 3600
    last = first + max(1, int(seconds) // CELL_SECONDS) - 1
    return Work(pool, schedule, first, last, 1, slots * seconds, seconds)


def every_day(weeks: int, hour: float, hours: float, slots: float, schedule: str | None = None) -> Iterator[Work]:
    """The same run on each day of the weeks before midnight."""
    for day in range(7 * weeks):
        yield work(MIDNIGHT - (day + 1) * DAY + hour * HOUR, hours, slots, schedule)


def learnt(*works: Work) -> PoolLoad:
    return learn_loads(works, MIDNIGHT)[POOL]


def quarter(hour: float) -> int:
    """Where a load has this hour of Monday."""
    return int((MIDNIGHT + hour * HOUR).timestamp()) // 900 % 672


def a_load(*busy: tuple[float, float], **schedules: ScheduleLoad) -> PoolLoad:
    """So many slots from each hour on, each day, until the next pair's."""
    day = [[slots for hour, slots in busy if hour * 4 <= quarter][-1] for quarter in range(96)]
    return PoolLoad(busy=[*day] * 7, schedules=schedules)


def span(hour: float, hours: float, chosen: float | None = None) -> Span:
    due = MIDNIGHT + hour * HOUR
    return Span(due, due, due + hours * HOUR, MIDNIGHT + chosen * HOUR if chosen is not None else None)


def chosen(forecast: Forecast, window: Span, objective: str = "Quiet") -> float:
    """Hours after midnight."""
    return (choose_start(forecast, objective, RUN, window)[0] - MIDNIGHT) / HOUR


def test_load_is_the_slots_that_runs_held_at_that_time_of_the_week() -> None:
    load = learnt(*every_day(4, 9, 2, 3.0), *every_day(4, 10, 0.5, 1.0))

    assert [load.busy[quarter(hour)] for hour in (8, 9, 10, 10.5, 11)] == pytest.approx([0, 3, 4, 3, 0], abs=0.02)


def test_what_weeks_ago_was_counts_less() -> None:
    load = learnt(work(MIDNIGHT - 7 * DAY + 9 * HOUR, 1, 4.0), work(MIDNIGHT - 49 * DAY + 10 * HOUR, 1, 4.0))

    assert load.busy[quarter(9)] > 4 * load.busy[quarter(10)] > 0


def test_less_than_a_week_is_no_history() -> None:
    six_days = [work(MIDNIGHT - day * DAY, 1, 1.0) for day in range(1, 7)]

    assert learn_loads(six_days, MIDNIGHT) == {}
    assert learn_loads([], MIDNIGHT) == {}


def test_the_busiest_pools_have_room_first() -> None:
    works = [work(MIDNIGHT - 8 * DAY, 1, number + 1.0, pool=f"team pool-{number}") for number in range(100)]

    assert set(learn_loads(works, MIDNIGHT, max_bytes=20_000)) == {f"team pool-{n}" for n in (99, 98, 97)}


def test_what_a_schedules_run_takes_is_learnt_from_its_runs() -> None:
    load = learnt(*every_day(2, 9, 2, 3.0, "nightly"))

    assert (taken_by(load, "nightly").seconds, taken_by(load, "nightly").slots) == (7200.0, 3.0)
    assert taken_by(load, "new").slots == 1.0


def test_the_quietest_time_of_the_window_is_chosen_and_the_reason_compares_it() -> None:
    forecast = Forecast(a_load((0, 0.0), (8, 4.0), (12, 0.4), (13, 4.0), (18, 0.0)), 4)

    start, reason = choose_start(forecast, "Quiet", RUN, span(9, 4))

    assert MIDNIGHT + 12 * HOUR <= start <= MIDNIGHT + 12.6 * HOUR
    assert reason.startswith("the pool is quieter then: ")
    assert reason.endswith("; at its due time every slot is taken")


def test_where_nothing_is_clearly_better_a_run_starts_at_its_due_time() -> None:
    forecast = Forecast(a_load((0, 2.0), (10, 1.9)), 4)

    start, reason = choose_start(forecast, "Quiet", RUN, span(9, 4))

    assert start == MIDNIGHT + 9 * HOUR
    assert reason == "no other start in the window is clearly better than its due time: 50% of all slots are taken"


def test_stale_results_are_worse_than_a_busy_pool_as_long_as_a_slot_is_free() -> None:
    forecast = Forecast(a_load((0, 4.0), (10, 1.6), (12, 0.0)), 4)

    assert chosen(forecast, span(9, 6), "Staleness") < 10.8 < 12 < chosen(forecast, span(9, 6), "Quiet")
    assert chosen(forecast, span(12, 4), "Staleness") == 12


def test_stale_results_wait_for_the_quietest_time_where_no_slot_is_free() -> None:
    forecast = Forecast(a_load((0, 4.0), (10, 3.0), (11, 4.0)), 4)

    assert 10 <= chosen(forecast, span(9, 3), "Staleness") <= 10.5


def test_a_start_that_was_announced_stays_unless_another_is_clearly_better() -> None:
    even = Forecast(a_load((0, 4.0), (10, 0.1), (14, 0.0)), 4)
    busy = Forecast(a_load((0, 4.0), (13, 0.0)), 4)

    assert chosen(even, span(9, 8, chosen=11)) == 11
    assert chosen(busy, span(9, 8, chosen=11)) >= 13
    assert chosen(even, span(9, 1, chosen=11)) < 10


def test_a_schedule_does_not_flee_from_its_own_runs_but_from_those_of_fixed_times() -> None:
    load = learnt(*every_day(3, 9, 1, 4.0, "nightly"))

    assert chosen(Forecast(load, 4), span(9, 4)) == 9
    assert chosen(Forecast(load, 4, kept=("nightly",)), span(9, 4)) >= 10


def test_runs_that_other_smart_schedules_have_announced_are_avoided() -> None:
    other = Expected(MIDNIGHT + 9 * HOUR, ScheduleLoad(seconds=3600.0, slots=4.0))

    assert chosen(Forecast(a_load((0, 0.0)), 4, expected=[other]), span(9, 4)) > 10


def test_a_due_time_that_passed_leaves_what_is_left_of_its_window() -> None:
    due, now = MIDNIGHT + 9 * HOUR, MIDNIGHT + 10 * HOUR + timedelta(seconds=7)
    forecast = Forecast(a_load((0, 2.0)), 4)

    assert choose_start(forecast, "Quiet", RUN, Span(due, now, due + 4 * HOUR))[0] == now


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=30),
    st.integers(0, 600_000), st.integers(1, 200_000), st.integers(0, 200_000),
    st.sampled_from(["Quiet", "Staleness"]),
)  # fmt: skip
def test_the_start_is_within_the_window_and_nothing_is_clearly_better(
    busy: list[float], due: int, window: int, announced: int, objective: str
) -> None:
    forecast = Forecast(PoolLoad(busy=[busy[place // 4 % len(busy)] for place in range(672)]), 8)
    first = MIDNIGHT + timedelta(seconds=due)
    wanted = Span(first, first, first + timedelta(seconds=window), first + timedelta(seconds=announced))

    start, _ = choose_start(forecast, objective, RUN, wanted)

    assert wanted.first <= start < wanted.until
    again = Span(wanted.due, wanted.first, wanted.until, start)
    assert choose_start(forecast, objective, RUN, again)[0] == start
