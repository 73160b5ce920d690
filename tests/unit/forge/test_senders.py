"""Which forge speaks, of what, and under which id."""

from __future__ import annotations

import pytest

from dawg_orchestrator.forge.faults import Malformed
from dawg_orchestrator.forge.models import ForgeKind
from dawg_orchestrator.forge.senders import Told, told_by

GITHUB = [(b"X-GitHub-Event", b"push"), (b"X-GitHub-Delivery", b"d-1")]
GITEA = [(b"X-Gitea-Event", b"push"), (b"X-Gitea-Delivery", b"d-1"), *GITHUB]
GITLAB = [(b"X-Gitlab-Event", b"Push Hook"), (b"X-Gitlab-Event-UUID", b"d-1")]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (GITHUB, Told(ForgeKind.GITHUB, "push", "d-1")),
        (GITEA, Told(ForgeKind.GITEA, "push", "d-1")),
        (GITLAB, Told(ForgeKind.GITLAB, "Push Hook", "d-1")),
        ([(b"x-dawg-event", b"push"), (b"x-dawg-delivery", b"d-1")], None),
        ([], None),
    ],
)
def test_a_forge_is_known_by_its_headers(headers: list[tuple[bytes, bytes]], told: Told | None):
    assert told_by(headers) == told


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        (GITHUB[:1], "x-github-delivery"),
        ([*GITHUB, GITHUB[1]], "x-github-delivery"),
        ([*GITHUB, (b"x-github-event", b"ping")], "x-github-event"),
        ([GITHUB[0], (b"X-GitHub-Delivery", b"d" * 200)], "x-github-delivery"),
        ([GITHUB[0], (b"X-GitHub-Delivery", b"a b")], "x-github-delivery"),
    ],
)
def test_an_event_without_one_name_and_one_id_is_malformed(headers: list[tuple[bytes, bytes]], field: str):
    with pytest.raises(Malformed) as fault:
        told_by(headers)

    assert fault.value.field == field
