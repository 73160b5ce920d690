"""Who may send webhooks: who knows the secret, and says so once."""

from __future__ import annotations

import hmac

import pytest

from dawg_orchestrator.api.signing import claim_of

SECRET, BODY = b"known-to-both", b'{"zen": "x"}'
AT = b"1780000000"
Headers = list[tuple[bytes, bytes]]


def signature(secret: bytes = SECRET, signed: bytes = BODY) -> bytes:
    return b"sha256=" + hmac.digest(secret, signed, "sha256").hex().encode()


HUB = (b"X-Hub-Signature-256", signature())
OURS = (b"X-DAWG-Signature", signature(signed=AT + b"." + BODY))
GITHUB = [(b"X-GitHub-Event", b"push"), (b"X-GitHub-Delivery", b"d-1")]
GITEA = [(b"X-Gitea-Event", b"push"), (b"X-Gitea-Delivery", b"d-1"), *GITHUB]
GITLAB = [(b"X-Gitlab-Event", b"Push Hook"), (b"X-Gitlab-Event-UUID", b"d-1")]
LAB_TOKEN = (b"X-Gitlab-Token", SECRET)
DAWG = [(b"X-DAWG-Event", b"push"), (b"X-DAWG-Delivery", b"d-1"), (b"X-DAWG-Timestamp", AT)]


def is_verified(headers: Headers, secret: bytes = SECRET, body: bytes = BODY) -> bool:
    claim = claim_of(headers)
    return claim is not None and claim.is_signed_with(secret, body)


@pytest.mark.parametrize("headers", [[*GITHUB, HUB], [*GITEA, HUB], [*GITLAB, LAB_TOKEN], [*DAWG, OURS]])
def test_who_knows_the_secret_is_heard(headers: Headers):
    assert is_verified(headers)
    assert not is_verified(headers, secret=b"another")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HUB],
        GITHUB,
        GITEA,
        GITLAB,
        DAWG,
        [*GITHUB, (HUB[0], signature(b"another"))],
        [*GITHUB, (HUB[0], HUB[1].removeprefix(b"sha256="))],
        [*GITHUB, (HUB[0], HUB[1].replace(b"sha256", b"sha1"))],
        [*GITHUB, (b"X-Hub-Signature", HUB[1])],
        [*GITHUB, HUB, HUB],
        [*GITHUB, (HUB[0], signature(b"another")), HUB],
        [*GITHUB, GITHUB[0], HUB],
        [*GITHUB, GITHUB[1], HUB],
        [GITHUB[0], (b"X-GitHub-Delivery", b"a b"), HUB],
        [*GITHUB, LAB_TOKEN],
        [*GITLAB, (LAB_TOKEN[0], b"known-to-bot")],
        [*GITLAB, (LAB_TOKEN[0], b"")],
        [*GITLAB, (LAB_TOKEN[0], "größer".encode())],
        [*GITLAB, LAB_TOKEN, LAB_TOKEN],
        [*GITLAB, HUB],
        [*GITLAB, *GITHUB, LAB_TOKEN, (HUB[0], signature(b"another"))],
        [*DAWG, OURS, HUB],
        [*DAWG[:2], OURS],
        [*DAWG, DAWG[2], OURS],
        [*DAWG[:2], (DAWG[2][0], b"1780000001"), OURS],
    ],
)
def test_everybody_else_is_not(headers: Headers):
    assert not is_verified(headers)


@pytest.mark.parametrize("headers", [[*GITHUB, HUB], [*DAWG, OURS]])
def test_a_body_that_was_changed_is_not_believed(headers: Headers):
    assert not is_verified(headers, body=BODY + b" ")


@pytest.mark.parametrize(
    "headers",
    [
        [*GITHUB, (HUB[0], signature(b""))],
        [*DAWG, (OURS[0], signature(b"", AT + b"." + BODY))],
        [*GITLAB, (LAB_TOKEN[0], b" ")],
    ],
)
def test_an_empty_secret_verifies_nobody(headers: Headers):
    assert not is_verified(headers, secret=b"")


def test_what_is_signed_is_shown_to_nobody():
    for headers in ([*GITHUB, HUB], [*GITLAB, LAB_TOKEN]):
        claim = claim_of(headers)
        assert claim is not None
        assert SECRET.decode() not in repr(claim)
        assert claim.signature.hex() not in repr(claim)
