"""Which faults are tried, and which of them share a load. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from chaosruns import faults

_OCCURRENCES = 2
_KILLS, _OTHERS = 4, 16  # that wait for their call at a time
_LATE_EVERY, _TROUBLE_EVERY = 5, 3  # loads
# After a leader has begun to serve it compares what it knows with what exists, and deletes what is due.
_LATE_CALLS = ("list-metadata", "delete testruns", "get testruns")
_SEED = 4


@dataclass(frozen=True)
class Point:
    """A fault and where it strikes: a call by kind and occurrence, or none for trouble of another sort."""

    fault: str
    kind: str = ""
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.fault} at {self.kind} {self.nth}" if self.kind else f"{self.fault} {self.nth}"

    @property
    def kills(self) -> bool:
        """Whether a controller dies of it."""
        return self.fault in faults.KILLS

    @property
    def is_late(self) -> bool:
        """Whether its call comes only some time after a leader has begun to serve."""
        return any(name in self.kind for name in _LATE_CALLS)


def points_at(calls: Counter[str]) -> list[Point]:
    """Every point at the kinds of calls that a recording has seen, those of a kind apart from one another."""
    kinds = sorted(kind for kind in calls if not kind.startswith("unknown"))
    found = [
        Point(fault, kind, nth)
        for kind in kinds for fault in faults.faults_of(kind)
        for nth in range(1, min(_OCCURRENCES, calls[kind]) + 1)
    ]  # fmt: skip
    random.Random(_SEED).shuffle(found)  # noqa: S311 - the same order in every call
    return found


class Queue:
    """Points that wait for their load."""

    def __init__(self, points: Iterable[Point]) -> None:
        points = list(points)
        self._troubles = [point for point in points if not point.kind]
        self._late = [point for point in points if point.is_late]
        self._calls = [point for point in points if point.kind and not point.is_late]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._troubles) + len(self._late) + len(self._calls)

    def next(self, standing: Collection[Point]) -> list[Point]:
        """What the next load has, besides the points that still wait for their call; a trouble comes alone."""
        self._turn += 1
        if self._troubles and (self._turn % _TROUBLE_EVERY == 0 or not (self._late or self._calls or standing)):
            return [self._troubles.pop(0)]
        late = self._turn % _LATE_EVERY == 0 or not (self._calls or standing)
        found: list[Point] = []
        for queue in (self._late, self._calls) if late else (self._calls,):
            for point in list(queue):
                if _fits(point, [*standing, *found]):
                    found.append(point)
                    queue.remove(point)
        return found


def _fits(point: Point, others: Collection[Point]) -> bool:
    """Whether there is room for it: one point of a kind of call at a time, and not too many deaths."""
    alike = sum(other.kills == point.kills for other in others)
    return alike < (_KILLS if point.kills else _OTHERS) and all(point.kind != other.kind for other in others)
