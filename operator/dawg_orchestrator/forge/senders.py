"""Which forge a webhook comes from, which event it is, and under which id: what its headers say. Pure.

Nothing here is verified: whoever takes webhooks does that first (api/signing.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dawg_orchestrator.forge.faults import Malformed
from dawg_orchestrator.forge.models import ForgeKind

_EVENT = re.compile(r"[ -~]{1,128}")
_DELIVERY = re.compile(r"[!-~]{1,128}")

# What a forge calls its headers of event and id. Gitea sends GitHub's beside its own, so it is looked for first.
_NAMES: Final = {
    ForgeKind.GITEA: ("x-gitea-event", "x-gitea-delivery"),
    ForgeKind.GITLAB: ("x-gitlab-event", "x-gitlab-event-uuid"),
    ForgeKind.GITHUB: ("x-github-event", "x-github-delivery"),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What the headers of a webhook say."""

    forge: ForgeKind
    event: str
    delivery: str


def told_by(headers: Iterable[tuple[bytes, bytes]]) -> Told | None:
    """What they say; None where no forge speaks. Raises Malformed for an event without one name or id."""
    given: dict[str, list[str]] = {}
    for name, value in headers:
        given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    forge = next((kind for kind, (event, _) in _NAMES.items() if event in given), None)
    if forge is None:
        return None
    event, delivery = _NAMES[forge]
    return Told(forge, _only(given, event, _EVENT), _only(given, delivery, _DELIVERY))


def _only(given: dict[str, list[str]], name: str, form: re.Pattern[str]) -> str:
    values = given.get(name, [])
    if len(values) != 1 or not form.fullmatch(values[0]):
        raise Malformed(name, "it must be there once, as 1 to 128 characters of ASCII")
    return values[0]
