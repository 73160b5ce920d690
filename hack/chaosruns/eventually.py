"""Waiting for what nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(look: Callable[[], Awaitable[bool]], *, within: float, every: float = 0.2) -> None:
    """Look until it is so; TimeoutError when it does not become so in time."""
    async with asyncio.timeout(within):
        while not await look():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(every)
