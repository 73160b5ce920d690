"""The patch that a run puts on top of its commit: fetched from the api, checked, and bounded when git applies it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dawg_agent.git import GitError
from dawg_agent.upload import Door, DoorClosed, DoorRefused, persist
from dawg_orchestrator.resources.protocol import AttemptRef
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES

FETCH_PATIENCE = 60.0  # seconds that a patch may take to be fetched


@dataclass(frozen=True)
class Patch:
    """A patch by the name that the run gives it, ``sha256:HEX``, and how to get its bytes (GitError)."""

    ref: str
    fetch: Callable[[], Awaitable[bytes]]

    @property
    def sha256(self) -> str:
        """The checksum of its bytes."""
        return self.ref.removeprefix("sha256:")


def patch_of(ref: str | None, door: Door, attempt: AttemptRef) -> Patch | None:
    """The patch that an order names, if it does."""
    return Patch(ref, lambda: _fetch(ref, door, attempt)) if ref is not None else None


async def _fetch(ref: str, door: Door, attempt: AttemptRef) -> bytes:
    deadline = asyncio.get_running_loop().time() + FETCH_PATIENCE
    try:
        patch = await persist(lambda: door.fetch_patch(attempt, MAX_PATCH_BYTES), deadline)
    except DoorClosed as error:
        raise GitError(Reason.SOURCE_UNREACHABLE, f"the patch {ref} could not be fetched: {error}") from error
    except DoorRefused as error:
        raise GitError(Reason.PATCH_NOT_FOUND, f"the patch {ref} is not to be had: {error}") from error
    if f"sha256:{hashlib.sha256(patch).hexdigest()}" != ref:
        raise GitError(Reason.PATCH_NOT_FOUND, f"what the api keeps as {ref} has another checksum; bring it again")
    return patch
