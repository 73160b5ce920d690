"""Whether a webhook is signed with a secret. Pure: the headers and the body as they came, a secret, a time.

    X-DAWG-Signature: sha256=HEX       over TIMESTAMP.BODY, with the header X-DAWG-Timestamp
    X-Hub-Signature-256: sha256=HEX    over BODY, as GitHub and Gitea sign
    X-Gitlab-Token: SECRET             the secret itself, as GitLab has it

Each of the first two may stand for the other only where that changes nothing: a body that begins with a timestamp and a
dot is no JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

FRESH = timedelta(minutes=5)
_OURS, _THEIRS = b"x-dawg-signature", b"x-hub-signature-256"
_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})")
_TIMESTAMP = re.compile(r"[0-9]{1,11}")
_EVENT = re.compile(r"[ -~]{1,128}")
_TOKEN = re.compile(r".{1,1024}")
_DELIVERY = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself; ``timestamp`` (Unix seconds) is part of what is signed, if there is one."""

    event: str
    delivery: str
    signature: bytes = field(repr=False)
    timestamp: str | None = None
    is_token: bool = False  # the signature is the secret itself

    @property
    def is_ours(self) -> bool:
        """Signed as only senders of ours do, so it is no forge that speaks."""
        return self.timestamp is not None

    def is_signed_with(self, secret: bytes, body: bytes) -> bool:
        """Compared in constant time. With an empty secret everybody could sign, so nobody has."""
        if not secret:
            return False
        if self.is_token:
            return hmac.compare_digest(hashlib.sha256(secret).digest(), hashlib.sha256(self.signature).digest())
        signed = body if self.timestamp is None else self.timestamp.encode() + b"." + body
        return hmac.compare_digest(hmac.digest(secret, signed, "sha256"), self.signature)

    def is_fresh(self, now: datetime) -> bool:
        """Not so old, or so far ahead, that it may be a repeat of long ago."""
        return self.timestamp is None or abs(now.timestamp() - int(self.timestamp)) <= FRESH.total_seconds()

    def identity(self, body: bytes) -> str:
        """What a repeat under another id has in common with this one."""
        return hashlib.sha256(body).hexdigest() if self.is_token else self.signature.hex()


def claim_of(headers: Iterable[tuple[bytes, bytes]]) -> Claim | None:
    """The claim, if each of its parts is there exactly once: two signatures, or two events, are none."""
    given = [(name.lower(), value.decode("latin-1").strip()) for name, value in headers]

    def only(form: re.Pattern[str], *names: bytes) -> re.Match[str] | None:
        values = [value for name, value in given if name in names]
        return form.fullmatch(values[0]) if len(values) == 1 else None

    token = only(_TOKEN, b"x-gitlab-token")
    if token is not None and not any(name in (_OURS, _THEIRS) for name, _ in given):
        event, delivery = only(_EVENT, b"x-gitlab-event"), only(_DELIVERY, b"x-gitlab-event-uuid")
        return Claim(event[0], delivery[0], token[0].encode("latin-1"), is_token=True) if event and delivery else None
    signature = only(_SIGNATURE, _OURS, _THEIRS)
    event = only(_EVENT, b"x-dawg-event", b"x-github-event")
    delivery = only(_DELIVERY, b"x-dawg-delivery", b"x-github-delivery")
    timestamp = only(_TIMESTAMP, b"x-dawg-timestamp")
    ours = any(name == _OURS for name, _ in given)
    if signature is None or event is None or delivery is None or (ours and timestamp is None):
        return None
    return Claim(event[0], delivery[0], bytes.fromhex(signature[1]), timestamp[0] if ours and timestamp else None)
