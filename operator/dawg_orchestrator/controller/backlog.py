"""How much waits and runs in each pool, kept up to date run by run so that nobody has to count."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime

from dawg_orchestrator.planning.order import QueuedTask

PoolKey = tuple[str, str]  # namespace, name


class Backlog:
    """The waiting and running tasks of all runs by pool; the order of the queue is planning's."""

    def __init__(self) -> None:
        self._ready: dict[PoolKey, dict[str, tuple[QueuedTask, ...]]] = defaultdict(dict)
        self._running: dict[PoolKey, dict[str, int]] = defaultdict(dict)
        self._waiting_total: Counter[PoolKey] = Counter()
        self._running_total: Counter[PoolKey] = Counter()

    def put(self, key: PoolKey, run_uid: str, ready: tuple[QueuedTask, ...], running: int) -> bool:
        """What one run has in a pool now; True when that is news."""
        before, count = self._ready[key].pop(run_uid, ()), self._running[key].pop(run_uid, 0)
        if ready:
            self._ready[key][run_uid] = ready
        if running:
            self._running[key][run_uid] = running
        self._waiting_total[key] += len(ready) - len(before)
        self._running_total[key] += running - count
        return ready != before or running != count

    def queued(self, key: PoolKey) -> list[QueuedTask]:
        """The waiting tasks of a pool, in no order."""
        return [task for tasks in self._ready[key].values() for task in tasks]

    def waiting(self, key: PoolKey) -> int:
        """How many tasks of a pool wait for a slot."""
        return self._waiting_total[key]

    def running(self, key: PoolKey) -> int:
        """How many tasks of a pool are under way."""
        return self._running_total[key]

    def oldest(self, key: PoolKey) -> datetime | None:
        """Since when the pool's longest waiting task waits."""
        return min((tasks[0].since for tasks in self._ready[key].values()), default=None)
