"""A log as people read it: what is there from an offset on and, if they follow, what comes, until it is complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from dawg_orchestrator.store.logs import LogKey, Logs

_LOOK_SECONDS = 1.0  # another replica may have taken the bytes, so a follower also looks by itself
_QUIET_LOOKS = 10  # a run that has ended may still be sending its last lines; after so many quiet looks it is not


async def stream_log(
    logs: Logs,
    key: LogKey,
    offset: int,
    *,
    follow: bool,
    run_ended: Callable[[], Awaitable[bool]],
    closing: asyncio.Event,
) -> AsyncIterator[bytes]:
    """The log's bytes from ``offset``. Following ends when the log is complete, when its run has ended and nothing
    has come for a while (its agent died before it could finish the log), or when the process closes."""
    state = await logs.state(key)
    quiet = 0
    while True:
        async for piece in logs.read(key, offset, state.readable):
            offset += len(piece)
            yield piece
        if not follow or state.complete or closing.is_set():
            return
        before = state
        state = await logs.grown(key, before, _LOOK_SECONDS)
        quiet = quiet + 1 if state == before else 0
        if quiet >= _QUIET_LOOKS and await run_ended():
            return
