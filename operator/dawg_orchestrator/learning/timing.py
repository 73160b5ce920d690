"""When a pool is busy, learnt from the runs of past weeks, and which start within a window is best.

    runs ──► load of each quarter-hour of the week ──► less what smart Schedules did ──► plus what they are about to do
                                                                    │
                                       the start that an objective prefers, and why ◄─┘

Weeks count less the older they are. What smart Schedules did says nothing about when the pool is busy without them:
where one ran last week the next one must not be afraid to run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from dawg_orchestrator.resources.protocol import QUARTERS_OF_A_WEEK, PoolLoad, ScheduleLoad

CELL_SECONDS = 300  # what is closer together than that is one time
WEEKS = 8  # of history; older ones say nothing any more
MAX_LOAD_BYTES = 2 * 1024 * 1024  # of all loads, as JSON
NO_HISTORY = "no history yet: it starts at its due time; runs of a week in its pool would change that"

_QUARTER_SECONDS = 900
_CELLS = _QUARTER_SECONDS // CELL_SECONDS
_OF_A_DAY = QUARTERS_OF_A_WEEK // 7
_WEEK_SECONDS = QUARTERS_OF_A_WEEK * _QUARTER_SECONDS
_HALF_AFTER_WEEKS = 2.0
_DECAY = 0.5 ** (1 / _HALF_AFTER_WEEKS)
_NUMBER_BYTES, _SHARE_BYTES, _NAME_BYTES = 7, 14, 400  # of a quarter-hour, of a Schedule's one, of what has a name
_STEP = timedelta(seconds=CELL_SECONDS)
_AROUND = timedelta(minutes=30)  # whose queue a run meets, and whose tasks meet its own
_CLEARLY = 0.1  # of all slots: less is not worth a move
_FREE_BELOW = 0.6  # of all slots: then one is usually free
_USUAL = ScheduleLoad(seconds=900.0, slots=1.0)  # of a Schedule that never ran


@dataclass(frozen=True, slots=True)
class Work:
    """Runs of one pool (and Schedule) that began and ended in the same cells of time since the epoch.

    ``busy``: seconds for which their tasks held slots; ``took``: seconds from their start to their end.
    """

    pool: str
    schedule: str | None
    started: int
    finished: int
    runs: int
    busy: float
    took: float


@dataclass(slots=True)
class _Sums:
    """Slot-seconds by quarter-hour of the week, and what runs took; all weighted by age."""

    busy: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    runs: float = 0.0
    took: float = 0.0
    held: float = 0.0


@dataclass(slots=True)
class _Past:
    """All that is known of a pool, since the quarter-hour (from the epoch) of its first run."""

    began: int
    by_schedule: dict[str | None, _Sums] = field(default_factory=lambda: defaultdict(_Sums))

    @property
    def held(self) -> float:
        """Slot-seconds of all its runs."""
        return sum(sums.held for sums in self.by_schedule.values())


def load_key(namespace: str, pool: str) -> str:
    """By what loads are kept. Neither part can contain a space."""
    return f"{namespace} {pool}"


def learn_loads(works: Iterable[Work], now: datetime, max_bytes: int = MAX_LOAD_BYTES) -> dict[str, PoolLoad]:
    """The load of each pool with a week of history; the busiest pools have room first."""
    present = int(now.timestamp()) // _QUARTER_SECONDS
    pasts: dict[str, _Past] = {}
    for work in works:
        _add(pasts.setdefault(work.pool, _Past(work.started // _CELLS)), work, present)
    known = [(pool, past) for pool, past in pasts.items() if present - past.began >= QUARTERS_OF_A_WEEK]
    loads, used = {}, 0
    for pool, past in sorted(known, key=lambda one: -one[1].held):
        load = _load(past, present)
        used += _NAME_BYTES + _NUMBER_BYTES * QUARTERS_OF_A_WEEK
        used += sum(_NAME_BYTES + _SHARE_BYTES * len(share.busy) for share in load.schedules.values())
        if used > max_bytes:
            break
        loads[pool] = load
    return loads


def _add(past: _Past, work: Work, present: int) -> None:
    """Spread what the runs held evenly over their time."""
    past.began = min(past.began, work.started // _CELLS)
    sums, weight = past.by_schedule[work.schedule], _weight(work.started // _CELLS, present)
    sums.runs += weight * work.runs
    sums.took += weight * work.took
    sums.held += weight * work.busy
    first, last = work.started, max(work.started, work.finished)
    for quarter in range(first // _CELLS, min(last // _CELLS + 1, present)):
        within = min(last, quarter * _CELLS + _CELLS - 1) - max(first, quarter * _CELLS) + 1
        sums.busy[quarter % QUARTERS_OF_A_WEEK] += work.busy * within / (last - first + 1) * _weight(quarter, present)


def _weight(quarter: int, present: int) -> float:
    return float(_DECAY ** max(0, (present - 1 - quarter) // QUARTERS_OF_A_WEEK))


def _load(past: _Past, present: int) -> PoolLoad:
    seen = _times_seen(past.began, present)
    averages = {
        schedule: {place: round(held / _QUARTER_SECONDS / seen[place], 2) for place, held in sorted(sums.busy.items())}
        for schedule, sums in past.by_schedule.items()
    }
    return PoolLoad(
        busy=[round(sum(busy.get(place, 0.0) for busy in averages.values()), 2) for place in range(QUARTERS_OF_A_WEEK)],
        schedules={
            schedule: ScheduleLoad(
                seconds=round(sums.took / sums.runs, 1), slots=round(sums.held / max(sums.took, 1.0), 2),
                busy=averages[schedule],
            )
            for schedule, sums in past.by_schedule.items() if schedule is not None
        },
    )  # fmt: skip


def _times_seen(began: int, present: int) -> list[float]:
    """How often each quarter-hour of the week has passed since then, by the weight of those weeks."""
    times = (
        (present - 1 - place) // QUARTERS_OF_A_WEEK - (began - 1 - place) // QUARTERS_OF_A_WEEK
        for place in range(QUARTERS_OF_A_WEEK)
    )
    return [sum(_DECAY**age for age in range(count)) for count in times]


@dataclass(frozen=True, slots=True)
class Expected:
    """A run that a smart Schedule is going to start."""

    start: datetime
    load: ScheduleLoad


class Forecast:
    """How many of a pool's slots are taken, at any time to come."""

    def __init__(
        self, load: PoolLoad, capacity: int, kept: Collection[str] = (), expected: Iterable[Expected] = ()
    ) -> None:
        """``kept``: labels of the Schedules that go on as they did; what others did is taken away."""
        busy = list(load.busy)
        for schedule, share in load.schedules.items():
            if schedule not in kept:
                for place, taken in share.busy.items():
                    busy[place] = max(0.0, busy[place] - taken)
        self._busy, self._capacity, self._expected = _steadied(busy), capacity, tuple(expected)
        self._before = [0.0, *accumulate(slots * _QUARTER_SECONDS for slots in self._busy)]

    def share_around(self, start: datetime, duration: timedelta) -> float:
        """Of all slots, on average over a run and half an hour before and after it; at 1 there is a queue.

        A run meets the queue of before, and those who come afterwards meet its own.
        """
        first = (start - _AROUND).timestamp()
        last = (start + duration + _AROUND).timestamp()
        held = self._until(last) - self._until(first)
        for run in self._expected:
            begins = run.start.timestamp()
            held += max(0.0, min(last, begins + run.load.seconds) - max(first, begins)) * run.load.slots
        return held / (last - first) / self._capacity

    def _until(self, time: float) -> float:
        """Slot-seconds since the epoch."""
        weeks, within = divmod(time, _WEEK_SECONDS)
        quarter = int(within // _QUARTER_SECONDS)
        rest = (within - quarter * _QUARTER_SECONDS) * self._busy[quarter]
        return weeks * self._before[-1] + self._before[quarter] + rest


def _steadied(busy: Sequence[float]) -> list[float]:
    """Half of each value from all days at that time, as busy as its day is: a few weeks of one day are much chance."""
    days = [busy[start : start + _OF_A_DAY] for start in range(0, QUARTERS_OF_A_WEEK, _OF_A_DAY)]
    usual = [sum(day[place] for day in days) / len(days) for place in range(_OF_A_DAY)]
    whole = sum(usual)
    levels = [sum(day) / whole if whole else 0.0 for day in days]
    steadied = []
    for day, level in zip(days, levels, strict=True):
        steadied += [(own + level * other) / 2 for own, other in zip(day, usual, strict=True)]
    return steadied


def taken_by(load: PoolLoad, schedule: str) -> ScheduleLoad:
    """What a Schedule's next run will take; of one that never ran, what is usual."""
    return load.schedules.get(schedule, _USUAL)


@dataclass(frozen=True, slots=True)
class Span:
    """When a run may start: from ``first`` on, before ``until``. ``due`` is its due time, ``chosen`` what was said."""

    due: datetime
    first: datetime
    until: datetime
    chosen: datetime | None = None


def choose_start(forecast: Forecast, objective: str, duration: timedelta, span: Span) -> tuple[datetime, str]:
    """The start that the objective prefers, and why. What was said before is changed only for a clear gain."""
    look = duration if objective == "Quiet" else timedelta()
    shares = {start: forecast.share_around(start, look) for start in _starts(span)}
    kept = span.chosen if span.chosen is not None and span.first <= span.chosen < span.until else span.first
    shares.setdefault(kept, forecast.share_around(kept, look))
    best = min(shares, key=lambda start: (round(shares[start], 2), start))
    gain = shares[kept] - shares[best]
    free = next((start for start in sorted(shares) if shares[start] < _FREE_BELOW), None)
    if objective == "Staleness" and free is not None:
        best, gain = free, _FREE_BELOW - shares[free] if free < kept else shares[kept] - shares[free]
    start = best if gain >= _CLEARLY else kept
    likely_free = objective == "Staleness" and shares[start] < _FREE_BELOW
    return start, _why(shares[start], forecast.share_around(span.due, look), start == span.due, likely_free)


def _starts(span: Span) -> Iterator[datetime]:
    """The first moment, and then every five minutes."""
    yield span.first
    step = int(span.first.timestamp()) // CELL_SECONDS + 1
    start = datetime.fromtimestamp(step * CELL_SECONDS, UTC)
    while start < span.until:
        yield start
        start += _STEP


def _why(then: float, due: float, at_due_time: bool, likely_free: bool) -> str:
    if at_due_time and likely_free:
        return f"a slot is likely to be free at its due time: {_told(due)}"
    if at_due_time:
        return f"no other start in the window is clearly better than its due time: {_told(due)}"
    better = "a slot is likely to be free then" if likely_free else "the pool is quieter then"
    return f"{better}: {_told(then)}; at its due time {_told(due)}"


def _told(share: float) -> str:
    return f"{share:.0%} of all slots are taken" if share < 1 else "every slot is taken"
