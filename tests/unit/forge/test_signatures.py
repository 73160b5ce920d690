"""Who may tell of events: who knows the secret, and says so once."""

from __future__ import annotations

import hmac

import pytest

from dawg_orchestrator.forge.faults import Malformed, Unverified
from dawg_orchestrator.forge.models import ForgeKind
from dawg_orchestrator.forge.signatures import Told, verified

SECRET, BODY = b"known-to-both", b'{"zen": "x"}'
DIGEST = hmac.digest(SECRET, BODY, "sha256").hex().encode()
OTHER = hmac.digest(b"another", BODY, "sha256").hex().encode()
HUB = (b"X-Hub-Signature-256", b"sha256=" + DIGEST)
GITHUB = [(b"X-GitHub-Event", b"push"), (b"X-GitHub-Delivery", b"d-1")]
GITEA = [(b"X-Gitea-Event", b"push"), (b"X-Gitea-Delivery", b"d-1"), *GITHUB]
GITEA_SIGNATURE = (b"X-Gitea-Signature", DIGEST)
GITLAB = [(b"X-Gitlab-Event", b"Push Hook"), (b"X-Gitlab-Event-UUID", b"d-1")]
LAB_TOKEN = (b"X-Gitlab-Token", SECRET)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([*GITHUB, HUB], Told(ForgeKind.GITHUB, "push", "d-1")),
        ([*GITEA, HUB, GITEA_SIGNATURE], Told(ForgeKind.GITEA, "push", "d-1")),
        ([*GITEA, GITEA_SIGNATURE], Told(ForgeKind.GITEA, "push", "d-1")),
        ([*GITEA, HUB], Told(ForgeKind.GITEA, "push", "d-1")),
        ([*GITLAB, LAB_TOKEN], Told(ForgeKind.GITLAB, "Push Hook", "d-1")),
    ],
)
def test_who_knows_the_secret_is_heard(headers: list[tuple[bytes, bytes]], told: Told):
    assert verified(headers, BODY, SECRET) == told


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HUB],
        GITHUB,
        GITEA,
        GITLAB,
        [*GITHUB, (HUB[0], b"sha256=" + OTHER)],
        [*GITHUB, (HUB[0], DIGEST)],
        [*GITHUB, (HUB[0], b"sha1=" + DIGEST)],
        [*GITHUB, (b"X-Hub-Signature", HUB[1])],
        [*GITHUB, HUB, HUB],
        [*GITHUB, (HUB[0], b"sha256=" + OTHER), HUB],
        [*GITHUB, GITEA_SIGNATURE],
        [*GITHUB, LAB_TOKEN],
        [*GITEA, HUB, (GITEA_SIGNATURE[0], OTHER)],
        [*GITEA, (HUB[0], b"sha256=" + OTHER), GITEA_SIGNATURE],
        [*GITLAB, (LAB_TOKEN[0], b"known-to-bot")],
        [*GITLAB, (LAB_TOKEN[0], b"")],
        [*GITLAB, (LAB_TOKEN[0], "größer".encode())],
        [*GITLAB, LAB_TOKEN, LAB_TOKEN],
        [*GITLAB, HUB],
        [*GITLAB, *GITEA, LAB_TOKEN],
    ],
)
def test_everybody_else_is_not(headers: list[tuple[bytes, bytes]]):
    with pytest.raises(Unverified) as refusal:
        verified(headers, BODY, SECRET)

    assert SECRET.decode() not in str(refusal.value)


def test_a_body_that_was_changed_is_not_believed():
    with pytest.raises(Unverified):
        verified([*GITHUB, HUB], BODY + b" ", SECRET)


@pytest.mark.parametrize(
    "headers",
    [
        [*GITHUB, (HUB[0], b"sha256=" + hmac.digest(b"", BODY, "sha256").hex().encode())],
        [*GITEA, (GITEA_SIGNATURE[0], hmac.digest(b"", BODY, "sha256").hex().encode())],
        [*GITLAB, (LAB_TOKEN[0], b"")],
    ],
)
def test_an_empty_secret_verifies_nobody(headers: list[tuple[bytes, bytes]]):
    with pytest.raises(Unverified):
        verified(headers, BODY, b"")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([*GITHUB[:1], HUB], "x-github-delivery"),
        ([*GITHUB, GITHUB[1], HUB], "x-github-delivery"),
        ([*GITHUB, (b"x-github-event", b"ping"), HUB], "x-github-event"),
        ([GITHUB[0], (b"X-GitHub-Delivery", b"d" * 200), HUB], "x-github-delivery"),
        ([GITHUB[0], (b"X-GitHub-Delivery", b"a b"), HUB], "x-github-delivery"),
    ],
)
def test_an_event_without_one_name_and_one_id_is_malformed(headers: list[tuple[bytes, bytes]], field: str):
    with pytest.raises(Malformed) as fault:
        verified(headers, BODY, SECRET)

    assert fault.value.field == field
