"""Webhooks of GitHub, GitLab and Gitea: what has happened in which repository. Pure.

A payload is a hint that wakes who looks at the repository itself, so only that is read which finds the repository, the
ref and the pull request; everything else in it may be as long and as odd as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dawg_orchestrator.forge.events import GitEvent
from dawg_orchestrator.forge.faults import Malformed, NotForUs
from dawg_orchestrator.forge.hub_payloads import HUB_READERS
from dawg_orchestrator.forge.lab_payloads import LAB_READERS
from dawg_orchestrator.forge.models import ForgeKind, shown
from dawg_orchestrator.forge.signatures import verified

MAX_PAYLOAD: Final = 25 * 2**20  # bytes; GitHub sends no more
_READERS: Final = {ForgeKind.GITHUB: HUB_READERS, ForgeKind.GITEA: HUB_READERS, ForgeKind.GITLAB: LAB_READERS}


def git_event(headers: Iterable[tuple[bytes, bytes]], body: bytes, secret: bytes) -> GitEvent:
    """The event of a webhook, once it is verified.

    Raises Unverified; NotForUs for events that concern nobody here; Malformed that names the field.
    """
    told = verified(headers, body, secret)
    if len(body) > MAX_PAYLOAD:
        raise Malformed("the body", f"it has more than {MAX_PAYLOAD // 2**20} MiB")
    reader = _READERS[told.forge].get(told.event)
    if reader is None:
        raise NotForUs(f"the event {shown(told.event, 80)!r} of {told.forge} says nothing of commits to test")
    return reader(told, body)
