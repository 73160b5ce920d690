"""How much waits and runs in each pool, kept up to date run by run so that nobody has to count."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime

from dawg_orchestrator.planning.order import QueuedTask

PoolKey = tuple[str, str]  # namespace, name
_Lane = tuple[bool, str, bool]  # whether its Job is under way, priority, whether it is recommended
_Place = tuple[datetime, int, str]  # of a run in a lane: since when it waits, its place among recommended ones, its uid


class Backlog:
    """The waiting and running tasks of all runs by pool; the order of the queue is planning's.

    Of one priority, recommended tasks keep the order in which their runs came, however long they wait, and so do all
    others. So runs stand in lanes, in order, and who wants the first few tasks of ten thousand reads the heads of the
    lanes.
    """

    def __init__(self) -> None:
        self._ready: dict[PoolKey, dict[str, tuple[QueuedTask, ...]]] = defaultdict(dict)
        self._running: dict[PoolKey, dict[str, int]] = defaultdict(dict)
        self._lanes: dict[PoolKey, dict[_Lane, list[_Place]]] = defaultdict(lambda: defaultdict(list))
        self._waiting_total: Counter[PoolKey] = Counter()
        self._running_total: Counter[PoolKey] = Counter()

    def put(self, key: PoolKey, run_uid: str, ready: tuple[QueuedTask, ...], running: int) -> bool:
        """What one run has in a pool now; True when that is news."""
        before, count = self._ready[key].pop(run_uid, ()), self._running[key].pop(run_uid, 0)
        if ready:
            self._ready[key][run_uid] = ready
        if ready != before:
            self._line_up(key, run_uid, before, ready)
        if running:
            self._running[key][run_uid] = running
        self._waiting_total[key] += len(ready) - len(before)
        self._running_total[key] += running - count
        return ready != before or running != count

    def queued(self, key: PoolKey) -> list[QueuedTask]:
        """The waiting tasks of a pool, in no order."""
        return [task for tasks in self._ready[key].values() for task in tasks]

    def lanes(self, key: PoolKey) -> Iterator[Iterator[QueuedTask]]:
        """The waiting tasks of a pool, those of a priority in their order."""
        for lane, runs in self._lanes[key].items():
            yield (task for *_, run in runs for task in self._ready[key][run] if _lane_of(task) == lane)

    def waiting(self, key: PoolKey) -> int:
        """How many tasks of a pool wait for a slot."""
        return self._waiting_total[key]

    def running(self, key: PoolKey) -> int:
        """How many tasks of a pool are under way."""
        return self._running_total[key]

    def oldest(self, key: PoolKey) -> datetime | None:
        """Since when the pool's longest waiting task waits."""
        return min((runs[0][0] for runs in self._lanes[key].values() if runs), default=None)

    def _line_up(
        self, key: PoolKey, run_uid: str, before: tuple[QueuedTask, ...], ready: tuple[QueuedTask, ...]
    ) -> None:
        had, has = ({_lane_of(task) for task in tasks} for tasks in (before, ready))
        any_task = (before or ready)[0]  # a run's tasks wait as long as it does, and are recommended as it is
        place = any_task.since, any_task.recommended, run_uid
        for lane in had - has:
            runs = self._lanes[key][lane]
            del runs[bisect_left(runs, place)]
        for lane in has - had:
            insort(self._lanes[key][lane], place)


def _lane_of(task: QueuedTask) -> _Lane:
    return task.adopt, task.priority, task.recommended > 0
