"""What history teaches the controller, worked out at most once in a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from dawg_orchestrator.api.auth import Clock
from dawg_orchestrator.learning.durations import duration_key, learn_durations
from dawg_orchestrator.resources.protocol import Learned
from dawg_orchestrator.store.runs import Runs

_FRESH_SECONDS = 60.0
_WINDOW = timedelta(days=30)
_SAMPLES = 50000


class Lessons:
    """The snapshot that leaders fetch; many who ask at once cause one look into history."""

    def __init__(self, runs: Runs, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self._one = asyncio.Lock()
        self._known: tuple[float, Learned] | None = None

    async def current(self) -> Learned:
        """Durations of the last weeks, a minute old at most."""
        async with self._one:
            if self._known is None or self._known[0] <= self._clock():
                samples = await self._runs.samples(datetime.now(UTC) - _WINDOW, _SAMPLES)
                pairs = [(duration_key(one.namespace, one.task, one.image), one.seconds) for one in samples]
                learned = Learned(durations=await asyncio.to_thread(learn_durations, pairs))
                self._known = (self._clock() + _FRESH_SECONDS, learned)
            return self._known[1]
