"""Due times, against an oracle that looks at every minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.cron import check_cron, due_times

MINUTE = timedelta(minutes=1)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
# Two days before a change of clocks, or at the end of a leap year's February.
_BEGINNINGS = (
    ("Europe/Berlin", "2026-03-28"), ("Europe/Berlin", "2026-10-24"), ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"), ("Australia/Lord_Howe", "2026-04-03"), ("Australia/Lord_Howe", "2026-10-02"),
    ("America/Santiago", "2026-09-05"), ("Asia/Kathmandu", "2028-02-28"), ("UTC", "2028-02-28"), ("UTC", "2026-12-30"),
)  # fmt: skip


def allowed(field: str, least: int, most: int) -> set[int]:
    """The values that a field of a cron expression names."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            low, high = least, most
        else:
            low, high = int(first), int(last or (most if step else first))
        found |= set(range(low, high + 1, int(step or 1)))
    return found


def matches(expression: str, local: datetime) -> bool:
    """Whether a minute of the wall clock is named; of day and weekday one is enough if neither begins with a star."""
    fields = expression.split()
    minute, hour, day, month, weekday = (
        value in allowed(field, *bounds)
        for field, bounds, value in zip(
            fields, _RANGES, (local.minute, local.hour, local.day, local.month, (local.weekday() + 1) % 7), strict=True
        )
    )
    both = fields[2].startswith("*") or fields[4].startswith("*")
    return minute and hour and month and ((day and weekday) if both else (day or weekday))


def oracle(expression: str, zone: ZoneInfo, after: datetime, until: datetime) -> set[datetime]:
    """Every due time in between, found minute by minute."""
    minute, hour, *_ = expression.split()
    if minute.startswith("*") or hour.startswith("*"):  # follows the clock through a change
        return {at for at in minutes(after, until) if matches(expression, at.astimezone(zone))}
    found = set()
    first = (after.astimezone(zone) - timedelta(hours=3)).replace(tzinfo=None)
    last = (until.astimezone(zone) + timedelta(hours=3)).replace(tzinfo=None)
    for wall in minutes(first, last):
        if matches(expression, wall):
            there = wall.replace(tzinfo=zone)
            while there.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != there.replace(tzinfo=None):
                there += MINUTE  # the change skips it
            found.add(there.astimezone(UTC))
    return {at for at in found if after < at <= until}


def minutes(after: datetime, until: datetime) -> Iterator[datetime]:
    """Every full minute."""
    at = after.replace(second=0, microsecond=0) + MINUTE
    while at <= until:
        yield at
        at += MINUTE


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    part = number.map(str) | span | st.integers(2, 20).map(lambda step: f"*/{step}")
    return st.just("*") | part | st.tuples(number.map(str), number.map(str)).map(",".join)


expressions = st.tuples(
    *(field(*bounds) for bounds in _RANGES[:2]), *(st.just("*") | field(*bounds) for bounds in _RANGES[2:])
).map(" ".join)


@settings(max_examples=60)
@given(st.lists(expressions, min_size=1, max_size=3), st.sampled_from(_BEGINNINGS), st.integers(0, 1439))
def test_due_times_are_those_that_a_look_at_every_minute_finds(
    crons: list[str], beginning: tuple[str, str], offset: int
) -> None:
    name, day = beginning
    zone = ZoneInfo(name)
    after = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC) + offset * MINUTE
    until = after + timedelta(days=2)

    found = list(takewhile(lambda due: due <= until, due_times(crons, name, after)))

    assert found == sorted(set().union(*(oracle(cron, zone, after, until) for cron in crons)))


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("30 2 * * *", ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]),  # skipped: right after
        ("30 3 * * *", ["2026-03-29T01:30:00+00:00", "2026-03-30T01:30:00+00:00"]),
        ("0 0 29 2 *", ["2028-02-28T23:00:00+00:00", "2032-02-28T23:00:00+00:00"]),
    ],
)
def test_the_night_that_loses_an_hour_and_the_leap_day(cron: str, due: list[str]) -> None:
    after = datetime(2026, 3, 28, 12, tzinfo=UTC)

    found = islice(due_times([cron], "Europe/Berlin", after), 2)

    assert [time.isoformat() for time in found] == due


def test_a_time_that_comes_twice_is_due_the_first_time_also_for_who_looks_in_between() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, and again an hour later

    assert next(due_times(["30 2 * * *"], "Europe/Berlin", first - MINUTE)) == first
    for minutes_later in (0, 15, 45, 75):
        following = next(due_times(["30 2 * * *"], "Europe/Berlin", first + minutes_later * MINUTE))
        assert following == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("crons", "timezone", "told"),
    [
        (["0 2 * *"], "UTC", "spec.cron[0]: '0 2 * *' has not five fields"),
        (["0 2 * * *", "99 2 * * *"], "UTC", "spec.cron[1]: '99 2 * * *' is no cron expression"),
        (["0 2 31 2 *"], "UTC", "spec.cron[0]"),
        (["0 2 * * *"], "Europe/Nowhere", "spec.timezone: 'Europe/Nowhere' is no time zone"),
        (["0 2 * * *"], "../../etc/passwd", "spec.timezone"),
    ],
)
def test_what_gives_no_due_times_is_named(crons: list[str], timezone: str, told: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        check_cron(crons, timezone)

    assert str(error.value).startswith(told)
