"""Smart Schedules against fixed times, in a simulation: a pool, weeks of load, and three runs a day. Needs no cluster.

    background tasks ─┐
                      ├─► one queue, first come, first served ─► slots ─► history ─► learn_loads ─► choose_start
    scheduled runs ───┘                                                                 (what the product calls)

All arms see the same background tasks, and begin with the same weeks of fixed starts. The best start is found by who
knows every task to come: each is tried, and the one is taken that makes all tasks together wait least.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heapreplace, merge

from benchmarks.figures import SEED, Figure, Part, mean_ratio, percentile
from dawg_orchestrator.learning.timing import (
    CELL_SECONDS,
    Expected,
    Forecast,
    Span,
    Work,
    choose_start,
    learn_loads,
    taken_by,
)
from dawg_orchestrator.resources.protocol import PoolLoad

_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_POOL, _SLOTS = "team default", 8
_HISTORY_DAYS, _DAYS = 21, 49
_DAY, _HOUR = 86400.0, 3600.0
_TASK_SECONDS = 300.0
_RUN_TASKS, _RUN_TASK_SECONDS = 6, 1200.0
_WINDOW = 4 * _HOUR
_DUE = {"early": 9 * _HOUR, "second": 10 * _HOUR, "late": 15 * _HOUR}  # of each day
_TRIED_EVERY = 900.0  # by who knows all

# How much of the pool others take on average, from each hour of a working day on; at weekends it is the night's.
_WORKING_DAY = [0.15] * 7 + [0.3, 0.6, 0.8, 0.85, 0.8, 0.5, 0.6, 0.8, 0.8, 0.65, 0.4, 0.25, 0.2] + [0.15] * 4
_NIGHT, _FLAT = 0.15, 0.55
_NOISE = 0.15  # of each day and each hour, as the standard deviation of a logarithm

Starts = dict[str, float]  # seconds since the first Monday, by schedule
Task = tuple[float, float, str]  # when it comes, for how long it runs, of which schedule ("" for others')


@dataclass
class Arm:
    """What one way to choose starts has led to."""

    free: list[float] = field(default_factory=lambda: [0.0] * _SLOTS)  # when each slot is free again
    works: list[Work] = field(default_factory=list)
    load: PoolLoad | None = None  # as learnt last
    waits: list[float] = field(default_factory=list)  # of scheduled tasks, after the weeks of history
    others: float = 0.0  # all that other tasks waited then
    late: list[float] = field(default_factory=list)  # from a due time to the start
    inflicted: float = 0.0  # what others waited longer than without any scheduled run, for each of these


Choose = Callable[[int, Arm, list[Task]], Starts]  # from the day, what has been, what others will do


def measure(seeds: int, tell: Callable[[str], None]) -> Part:
    """All arms on all seeds, for a load that comes and goes and for one that does not."""
    told: dict[str, dict[str, list[Arm]]] = {}
    for load, flat in (("weekly", False), ("flat", True)):
        told[load] = {name: [] for name in ("cron", "Quiet", "Staleness", "best")}
        for seed in range(seeds):
            tell(f"{load} load, seed {seed + 1} of {seeds}")
            days = _background(random.Random(SEED + seed), flat=flat)  # noqa: S311 - always the same load
            for name, arm in _arms(days).items():
                told[load][name].append(arm)
    figures = [
        *_figures("timing", "daily and weekly load: ", told["weekly"], ("≤ 0.5", "≤ 0.9")),
        *_figures("timing.flat", "flat load: ", told["flat"], ("≤ 1.1", "≤ 1.1")),
    ]
    samples = {
        f"{load}_{name}_{what}": [value(arm) for arm in arms]
        for load, by_name in told.items() for name, arms in by_name.items() for what, value in _VALUES.items()
    }  # fmt: skip
    return Part(figures, samples, compared_with="fixed times", floor="best starts")


def _arms(days: Sequence[list[Task]]) -> dict[str, Arm]:
    arms = {
        "cron": _live(days, lambda day, *_: _at_due_times(day)),
        "Quiet": _live(days, lambda day, arm, _: _smart("Quiet", day, arm)),
        "Staleness": _live(days, lambda day, arm, _: _smart("Staleness", day, arm)),
        "best": _live(days, _best),
    }
    alone = _live(days, lambda day, *_: _at_due_times(day), scheduled=False)
    for arm in arms.values():
        arm.inflicted = (arm.others - alone.others) / len(arm.late)
    return arms


def _background(chance: random.Random, *, flat: bool) -> list[list[Task]]:
    """Other tasks day by day; each day and each hour is a little busier or quieter than it usually is."""
    days = []
    for day in range(_DAYS):
        tasks: list[Task] = []
        mood = chance.lognormvariate(0, _NOISE)
        for hour in range(24):
            usual = _FLAT if flat else _WORKING_DAY[hour] if day % 7 < 5 else _NIGHT
            busy = usual * mood * chance.lognormvariate(0, _NOISE) * math.exp(-_NOISE * _NOISE)
            came = day * _DAY + hour * _HOUR
            while (came := came + chance.expovariate(busy * _SLOTS / _TASK_SECONDS)) < day * _DAY + (hour + 1) * _HOUR:
                tasks.append((came, chance.expovariate(1 / _TASK_SECONDS), ""))
        days.append(tasks)
    return days


def _live(days: Sequence[list[Task]], choose: Choose, *, scheduled: bool = True) -> Arm:
    """All days one after the other; in those of history everything starts at its due time."""
    arm = Arm()
    for day, tasks in enumerate(days):
        starts = choose(day, arm, tasks) if day >= _HISTORY_DAYS else _at_due_times(day)
        _pass_day(arm, day, list(_with_runs(tasks, starts if scheduled else {})))
    return arm


def _with_runs(tasks: list[Task], starts: Starts) -> Iterator[Task]:
    runs = sorted((start, _RUN_TASK_SECONDS, name) for name, start in starts.items() for _ in range(_RUN_TASKS))
    return merge(tasks, runs)


def _serve(tasks: Sequence[Task], free: list[float]) -> list[float]:
    """When each task starts; first come, first served."""
    starts = []
    for came, seconds, _ in tasks:
        start = max(came, free[0])
        heapreplace(free, start + seconds)
        starts.append(start)
    return starts


def _pass_day(arm: Arm, day: int, tasks: list[Task]) -> None:
    starts = _serve(tasks, arm.free)
    runs: dict[str, list[tuple[float, float]]] = {}
    for (came, seconds, name), start in zip(tasks, starts, strict=True):
        if name:
            runs.setdefault(name, []).append((came, start))
        else:
            arm.works.append(_work(None, start, start + seconds, seconds))
        if day < _HISTORY_DAYS:
            continue
        if name:
            arm.waits.append(start - came)
        else:
            arm.others += start - came
    for name, times in runs.items():
        came, (first, last) = times[0][0], (times[0][1], times[-1][1] + _RUN_TASK_SECONDS)
        arm.works.append(_work(name, first, last, _RUN_TASKS * _RUN_TASK_SECONDS))
        if day >= _HISTORY_DAYS:
            arm.late.append(came - day * _DAY - _DUE[name])


def _work(schedule: str | None, start: float, end: float, busy: float) -> Work:
    started, finished = (int((_MONDAY.timestamp() + time) // CELL_SECONDS) for time in (start, end))
    return Work(_POOL, schedule, started, finished, 1, busy, end - start)


def _at_due_times(day: int) -> Starts:
    return {name: day * _DAY + due for name, due in _DUE.items()}


def _smart(objective: str, day: int, arm: Arm) -> Starts:
    """As the product does it: each knows what the pool has done, and what the others are about to do."""
    now = _MONDAY + timedelta(days=day)
    starts: Starts = {}
    if arm.load is None or day % 7 == 0:
        arm.load = learn_loads(arm.works, now)[_POOL]
    load = arm.load
    for name, due in _at_due_times(day).items():
        expected = [Expected(_time(start), taken_by(load, other)) for other, start in starts.items()]
        span = Span(_time(due), _time(due), _time(due + _WINDOW))
        duration = timedelta(seconds=taken_by(load, name).seconds)
        start, _ = choose_start(Forecast(load, _SLOTS, (), expected), objective, duration, span)
        starts[name] = (start - _MONDAY).total_seconds()
    return starts


def _time(seconds: float) -> datetime:
    return _MONDAY + timedelta(seconds=seconds)


def _best(day: int, arm: Arm, tasks: list[Task]) -> Starts:
    """One run after the other, each where all tasks of the day together wait least."""
    starts: Starts = {}
    for name, due in _at_due_times(day).items():

        def waited(start: float, name: str = name) -> float:
            together = list(_with_runs(tasks, {**starts, name: start}))
            return sum(_serve(together, list(arm.free))) - sum(came for came, _, _ in together)

        tried = [due + step * _TRIED_EVERY for step in range(int(_WINDOW / _TRIED_EVERY))]
        starts[name] = min(tried, key=waited)
    return starts


def _figures(key: str, where: str, arms: dict[str, list[Arm]], goals: tuple[str, str]) -> list[Figure]:
    quiet, staleness = goals
    others = f"{where}what all others wait longer for each scheduled run"
    return [
        _figure(f"{key}.wait", f"{where}Quiet, queue wait of scheduled tasks, mean", arms, "Quiet", "wait", quiet),
        _figure(f"{key}.wait_p95", f"{where}the same, p95", arms, "Quiet", "wait_p95", quiet),
        _figure(f"{key}.inflicted", others, arms, "Quiet", "inflicted", quiet),
        _figure(f"{key}.staleness", f"{where}Staleness, queue wait, mean", arms, "Staleness", "wait", staleness),
    ]


def _figure(key: str, name: str, arms: dict[str, list[Arm]], objective: str, what: str, goal: str) -> Figure:
    ours, theirs, best = ([_VALUES[what](arm) for arm in arms[which]] for which in (objective, "cron", "best"))
    found, late = mean_ratio(ours, theirs), _mean([_mean(arm.late) for arm in arms[objective]]) / 60
    told = f"{found} of that with fixed times, {late:.0f} min after the due time"
    return Figure(
        key, name, _seconds(ours), _seconds(theirs), found.value, told, goal, _seconds(best), _mean(ours) / _mean(best)
    )


_VALUES: dict[str, Callable[[Arm], float]] = {
    "wait": lambda arm: _mean(arm.waits),
    "wait_p95": lambda arm: percentile(arm.waits, 0.95),
    "inflicted": lambda arm: arm.inflicted,
    "late": lambda arm: _mean(arm.late),
}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _seconds(values: Sequence[float]) -> str:
    return f"{_mean(values):.0f} s"
