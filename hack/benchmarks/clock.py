"""The one clock of all arms: pods, client and controller run on the same machine."""

from __future__ import annotations

import time


def now_ms() -> float:
    """Milliseconds of the wall clock."""
    return time.time_ns() / 1e6


def stamp_ms(log: bytes) -> float:
    """When a test began, as the program `stamp` wrote it."""
    return int(log.split()[0]) / 1e6
