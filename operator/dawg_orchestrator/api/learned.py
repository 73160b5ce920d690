"""What history teaches the controller, worked out at most once in a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from dawg_orchestrator.api.auth import Clock
from dawg_orchestrator.learning.durations import MAX_BYTES, duration_key, learn_durations
from dawg_orchestrator.learning.timing import MAX_LOAD_BYTES, WEEKS, learn_loads
from dawg_orchestrator.resources.protocol import Learned, PoolLoad
from dawg_orchestrator.store.runs import Runs

_FRESH_SECONDS = 60.0
_LOADS_FRESH_SECONDS = 900.0  # no quarter-hour of history more before that
_WINDOW = timedelta(days=30)
_SAMPLES = 50000


class Lessons:
    """The snapshot that leaders fetch; many who ask at once cause one look into history."""

    def __init__(self, runs: Runs, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self._one = asyncio.Lock()
        self._known: tuple[float, Learned] | None = None
        self._loads: tuple[float, dict[str, PoolLoad]] | None = None

    async def current(self) -> Learned:
        """Durations and loads of the last weeks; durations are a minute old at most, loads a quarter-hour."""
        async with self._one:
            if self._known is None or self._known[0] <= self._clock():
                samples = await self._runs.samples(datetime.now(UTC) - _WINDOW, _SAMPLES)
                pairs = [(duration_key(one.namespace, one.task, one.image), one.seconds) for one in samples]
                durations = await asyncio.to_thread(learn_durations, pairs, MAX_BYTES - MAX_LOAD_BYTES)
                learned = Learned(durations=durations, loads=await self._current_loads())
                self._known = (self._clock() + _FRESH_SECONDS, learned)
            return self._known[1]

    async def _current_loads(self) -> dict[str, PoolLoad]:
        if self._loads is None or self._loads[0] <= self._clock():
            now = datetime.now(UTC)
            works = await self._runs.work(now - timedelta(weeks=WEEKS))
            loads = await asyncio.to_thread(learn_loads, works, now)
            self._loads = (self._clock() + _LOADS_FRESH_SECONDS, loads)
        return self._loads[1]
