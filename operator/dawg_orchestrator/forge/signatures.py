"""Whether a webhook comes from who knows its secret, and which forge's it is. Pure.

GitHub    X-Hub-Signature-256: sha256=HEX    HMAC of the body
Gitea     X-Gitea-Signature: HEX             the same, beside GitHub's headers
GitLab    X-Gitlab-Token: SECRET             the secret itself
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dawg_orchestrator.forge.faults import Malformed, Unverified
from dawg_orchestrator.forge.models import ForgeKind

_HUB, _GITEA, _GITLAB = "x-hub-signature-256", "x-gitea-signature", "x-gitlab-token"
_SIGNATURE: Final = {_HUB: re.compile(r"sha256=([0-9a-fA-F]{64})"), _GITEA: re.compile(r"([0-9a-fA-F]{64})")}
_EVENT = re.compile(r"[ -~]{1,128}")
_DELIVERY = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Names:
    """What a forge calls its headers."""

    event: str
    delivery: str
    signatures: tuple[str, ...]


# Gitea sends GitHub's headers beside its own, so it is looked for first.
_NAMES: Final = {
    ForgeKind.GITEA: Names("x-gitea-event", "x-gitea-delivery", (_GITEA, _HUB)),
    ForgeKind.GITLAB: Names("x-gitlab-event", "x-gitlab-event-uuid", (_GITLAB,)),
    ForgeKind.GITHUB: Names("x-github-event", "x-github-delivery", (_HUB,)),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What the headers of a verified webhook say: of which forge, which event, under which id."""

    forge: ForgeKind
    event: str
    delivery: str


def verified(headers: Iterable[tuple[bytes, bytes]], body: bytes, secret: bytes) -> Told:
    """What the headers say, once the body or they are known to come from who knows the secret.

    Raises Unverified unless there is a signature, each is there once, and all fit; and for an empty secret, with which
    everybody could sign. Raises Malformed for a header without which the event has no name or id.
    """
    given: dict[str, list[str]] = {}
    for name, value in headers:
        given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    forge = next((kind for kind, names in _NAMES.items() if names.event in given), None)
    if forge is None:
        raise Unverified
    names = _NAMES[forge]
    signatures = [(name, value) for name in names.signatures for value in given.get(name, ())]
    once = len({name for name, _ in signatures}) == len(signatures)
    fits = [_fits(name, value, body, secret) for name, value in signatures]
    if not (secret and once and fits and all(fits)):
        raise Unverified
    return Told(forge, _only(given, names.event, _EVENT), _only(given, names.delivery, _DELIVERY))


def _fits(name: str, value: str, body: bytes, secret: bytes) -> bool:
    """Compared in constant time."""
    if name == _GITLAB:
        return hmac.compare_digest(value.encode("latin-1"), secret)
    found = _SIGNATURE[name].fullmatch(value)
    return found is not None and hmac.compare_digest(hmac.digest(secret, body, "sha256"), bytes.fromhex(found[1]))


def _only(given: dict[str, list[str]], name: str, form: re.Pattern[str]) -> str:
    values = given.get(name, [])
    if len(values) != 1 or not form.fullmatch(values[0]):
        raise Malformed(name, "it must be there once, as 1 to 128 characters of ASCII")
    return values[0]
