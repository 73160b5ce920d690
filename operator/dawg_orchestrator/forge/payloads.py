"""Webhooks of GitHub, GitLab and Gitea: what has happened in which repository. Pure.

A payload is a hint that wakes who looks at the repository itself, so only that is read which finds the repository, the
ref and the pull request; everything else in it may be as long and as odd as it likes. Who takes it has verified it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dawg_orchestrator.forge.events import GitEvent
from dawg_orchestrator.forge.faults import Malformed, NotForUs
from dawg_orchestrator.forge.hub_payloads import HUB_READERS
from dawg_orchestrator.forge.lab_payloads import LAB_READERS
from dawg_orchestrator.forge.models import ForgeKind, shown
from dawg_orchestrator.forge.senders import told_by

MAX_PAYLOAD: Final = 25 * 2**20  # bytes; GitHub sends no more
_READERS: Final = {ForgeKind.GITHUB: HUB_READERS, ForgeKind.GITEA: HUB_READERS, ForgeKind.GITLAB: LAB_READERS}


def git_event(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> GitEvent | None:
    """The event of a webhook that has been verified; None when it is no forge's.

    Raises NotForUs for events that concern nobody here, and Malformed that names the field.
    """
    told = told_by(headers)
    if told is None:
        return None
    if len(body) > MAX_PAYLOAD:
        raise Malformed("the body", f"it has more than {MAX_PAYLOAD // 2**20} MiB")
    reader = _READERS[told.forge].get(told.event)
    if reader is None:
        raise NotForUs(f"the event {shown(told.event, 80)!r} of {told.forge} says nothing of commits to test")
    return reader(told, body)
