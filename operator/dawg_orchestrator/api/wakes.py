"""From a webhook to the agents that look at repositories: they ask where to look now, and wait for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime

from dawg_orchestrator.store.wakes import Wakes

WAIT_SECONDS = 25.0  # for an answer: less than what proxies cut off
_OTHERS_SECONDS = 1.0  # between looks for what other replicas have taken


class Alarm:
    """Wakes of this replica are answered at once, those of others within a second."""

    def __init__(self, wakes: Wakes) -> None:
        self._wakes = wakes
        self._rung = asyncio.Event()

    async def ring(self, namespace: str, urls: Iterable[str], now: datetime) -> None:
        """Have these repositories looked at."""
        await self._wakes.add(namespace, urls, now)
        self._rung.set()
        self._rung = asyncio.Event()

    async def after(
        self, namespace: str, number: int | None, closing: asyncio.Event, wait: float = WAIT_SECONDS
    ) -> tuple[int, list[str]]:
        """What has rung since, and the number to ask with next; without one only that. Empty when nothing does."""
        if number is None:
            return await self._wakes.newest(namespace), []
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            rung = self._rung
            last, urls = await self._wakes.since(namespace, number)
            left = until - loop.time()
            if urls or left <= 0 or closing.is_set():
                return last, urls
            await _first(rung, closing, within=min(left, _OTHERS_SECONDS))


async def _first(*events: asyncio.Event, within: float) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
