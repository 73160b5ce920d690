"""The order of the queue: urgent first, then recommended tests, then who has waited longest.

Waiting raises a task, never into critical; and who has waited for one ``aging`` stands beside what is recommended, so
that nobody waits for ever behind it.

The queue is a sort order over waiting tasks, not a stored thing: after a restart the listing is the recovery.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

LEVELS = {"critical": 0, "high": 1, "medium": 2, "low": 3}
_HIGHEST_BY_AGING = 1  # waiting never makes a task critical
_MOST_DIGITS = 3  # of a place among recommended runs


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A task that could start now if its pool had a slot."""

    namespace: str
    run: str
    run_uid: str
    index: int
    pool: str
    priority: str
    since: datetime  # the run's creation, so that a restart changes nothing
    adopt: bool = False  # its Job is under way and only wants an agent: always first
    recommended: int = 0  # from 1 on: its run's place among those that are likely to fail; 0: it is none of them


def level(task: QueuedTask, aging: timedelta, now: datetime) -> int:
    """The level a task waits at now: 0 critical to 3 low; one up for each ``aging`` it has waited."""
    declared = LEVELS[task.priority]
    if declared <= _HIGHEST_BY_AGING or aging <= timedelta():
        return declared
    return max(_HIGHEST_BY_AGING, declared - int((now - task.since) / aging))


def read_place(text: str) -> int:
    """The place among recommended runs as their annotation says it; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0


def _comes_first(task: QueuedTask, aging: timedelta, now: datetime) -> bool:
    """Whether the task stands in the first row of its level."""
    return task.recommended > 0 or (aging > timedelta() and now - task.since >= aging)


def order(tasks: Iterable[QueuedTask], aging: timedelta, now: datetime, most: int | None = None) -> list[QueuedTask]:
    """The tasks (at most ``most``) in the order in which slots go to them; the same facts give the same order."""

    def place(task: QueuedTask) -> tuple[bool, int, bool, datetime, bool, int, str, int]:
        first = _comes_first(task, aging, now)
        # Runs that one step has started are often of the same second, as exact as the cluster tells it.
        among = not task.recommended, task.recommended
        return not task.adopt, level(task, aging, now), not first, task.since, *among, task.run_uid, task.index

    return sorted(tasks, key=place) if most is None else heapq.nsmallest(most, tasks, key=place)


def estimate_wait(
    ahead: Iterable[tuple[float, float]], running: Iterable[tuple[float, float]], slots: int
) -> tuple[int, int] | None:
    """Seconds until a slot is free, as (p50, p90), from the (p50, p90) durations of the work ahead.

    An estimate by volume: all work ahead, plus half of what runs, spread over the slots. None without slots.
    """
    if slots <= 0:
        return None
    waiting, busy = list(ahead), list(running)
    p50 = (sum(task[0] for task in waiting) + sum(task[0] for task in busy) / 2) / slots
    p90 = (sum(task[1] for task in waiting) + sum(task[1] for task in busy) / 2) / slots
    return round(p50), round(p90)
