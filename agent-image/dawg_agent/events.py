"""The sidecar's words: one line of JSON each on standard output, which the agent reads through the Kubernetes API."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from dawg_orchestrator.resources.results import SIDECAR_PREFIX, SidecarEvent

MAX_LINE = 1024 * 1024  # bytes; longer lines are nobody's event


def say(event: SidecarEvent) -> None:
    """Print an event. Nothing else in a sidecar may print what others wrote, or it could be taken for one."""
    line = event.model_dump_json(by_alias=True, exclude_none=True)
    sys.stdout.write(f"{SIDECAR_PREFIX}{line}\n")
    sys.stdout.flush()


def read_event(line: bytes) -> SidecarEvent | None:
    """Read a line of a sidecar's log; None: it is no event."""
    prefix = SIDECAR_PREFIX.encode()
    if not line.startswith(prefix):
        return None
    try:
        return SidecarEvent.model_validate_json(line[len(prefix) :])
    except ValidationError:
        return None
