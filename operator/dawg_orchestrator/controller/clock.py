"""The process' time: UTC that never jumps, whatever somebody does to the machine's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_WALL_START = datetime.now(UTC)
_MONOTONIC_START = time.monotonic()


def now() -> datetime:
    """Now, as aware UTC, counted by the monotonic clock from the start of the process."""
    return _WALL_START + timedelta(seconds=time.monotonic() - _MONOTONIC_START)
