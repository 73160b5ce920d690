"""Hears SIGTERM from the first instruction on.

A process that is a container's first ignores a signal it has no handler for; a test that ends at once could so
leave its sidecar waiting for a sign that was already given. This module imports nothing slow.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_SIGNS = (signal.SIGTERM, signal.SIGINT)
_early: list[int] = []


def listen() -> None:
    """Remember signs until an event loop takes over."""
    for sign in _SIGNS:
        signal.signal(sign, lambda number, _: _early.append(number))


def set_on_stop(event: asyncio.Event) -> None:
    """Set the event when told to stop, or at once if that was before; call it inside the event loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    for sign in _SIGNS:
        loop.add_signal_handler(sign, event.set)
    if _early:
        event.set()
