"""Senders of webhooks."""

from __future__ import annotations

import hashlib
import hmac
import time

SECRET = b"a secret that two sides know"


def digest(signed: bytes, secret: bytes = SECRET) -> str:
    """The value of a signature's header."""
    return "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


def dawg_headers(
    body: bytes, *, secret: bytes = SECRET, delivery: str = "d-1", event: str = "released", at: float | None = None
) -> dict[str, str]:
    """As documented: what is signed begins with the time."""
    timestamp = str(int(time.time() if at is None else at))
    return {
        "X-DAWG-Event": event, "X-DAWG-Delivery": delivery, "X-DAWG-Timestamp": timestamp,
        "X-DAWG-Signature": digest(timestamp.encode() + b"." + body, secret),
    }  # fmt: skip


def github_headers(
    body: bytes, *, secret: bytes = SECRET, delivery: str = "g-1", event: str = "released"
) -> dict[str, str]:
    """As GitHub sends them."""
    return {
        "X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": digest(body, secret),
        "Content-Type": "application/json",
    }  # fmt: skip


def gitlab_headers(
    _: bytes, *, secret: bytes = SECRET, delivery: str = "l-1", event: str = "released"
) -> dict[str, str]:
    """As GitLab sends them: the secret itself."""
    return {
        "X-Gitlab-Event": event, "X-Gitlab-Event-UUID": delivery, "X-Gitlab-Token": secret.decode(),
        "Content-Type": "application/json",
    }  # fmt: skip
