"""Webhooks: what each forge sends is read as what it means, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.forge.events import EventKind, GitEvent
from dawg_orchestrator.forge.faults import Malformed, NotForUs
from dawg_orchestrator.forge.models import ForgeKind
from dawg_orchestrator.forge.payloads import MAX_PAYLOAD, git_event

A, B, NOTHING = "a" * 40, "b" * 40, "0" * 40
OWN = Path(__file__).parents[2] / "data" / "webhooks" / "github"
# A folder EVENT/*.json of payloads that GitHub has sent: they are read, too, where there are some.
MORE = os.environ.get("DAWG_WEBHOOK_PAYLOADS")
HUB_CLONES = ("https://github.com/acme/shop.git", "git@github.com:acme/shop.git")
PULL_REQUEST = {"kind": EventKind.PULL_REQUEST, "ref": "refs/heads/work", "after": B, "number": 7,
                "base_ref": "refs/heads/main"}  # fmt: skip
MEANT: dict[str, dict[str, Any] | None] = {
    "push/branch": {"kind": EventKind.PUSH, "ref": "refs/heads/größe/x", "before": A, "after": B, "forced": True},
    "push/deleted-tag": {
        "kind": EventKind.PUSH, "ref": "refs/tags/v1.0", "before": A, "deleted": True, "forced": False,
    },
    "push/new-branch": {"kind": EventKind.PUSH, "ref": "refs/heads/new", "after": A, "forced": False},
    "pull_request/own-branch": {
        **PULL_REQUEST, "before": A, "action": "synchronize", "head_repository": "acme/shop",
    },
    "pull_request/fork": {**PULL_REQUEST, "action": "opened", "head_repository": "mallory/shop", "from_fork": True},
    "pull_request/deleted-fork": {**PULL_REQUEST, "action": "closed", "from_fork": True},
    "merge_group/checks-requested": {
        "kind": EventKind.MERGE_GROUP, "ref": f"refs/heads/gh-readonly-queue/main/pr-7-{A}", "before": A, "after": B,
        "action": "checks_requested", "base_ref": "refs/heads/main",
    },
    "ping/repository": {"kind": EventKind.PING},
    "ping/organization": {"kind": EventKind.PING, "repository": "", "clone_urls": ()},
    "status/success": None,
}  # fmt: skip


def github(event: str, body: bytes) -> GitEvent:
    return _event([(b"X-GitHub-Event", event.encode()), (b"X-GitHub-Delivery", b"d-1")], body)


def gitlab(event: str, payload: Any) -> GitEvent:
    headers = [(b"x-gitlab-event", event.encode()), (b"x-gitlab-event-uuid", b"d-1")]
    return _event(headers, json.dumps(payload).encode())


def _event(headers: list[tuple[bytes, bytes]], body: bytes) -> GitEvent:
    found = git_event(headers, body)
    assert found is not None
    return found


def test_what_no_forge_sends_is_no_event():
    assert git_event([(b"X-DAWG-Event", b"push"), (b"X-DAWG-Delivery", b"d-1")], b"{}") is None


@pytest.mark.parametrize("path", sorted(OWN.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_github_sends_is_read_as_it_is_meant(path: Path):
    meant = MEANT[f"{path.parent.name}/{path.stem}"]
    if meant is None:
        with pytest.raises(NotForUs, match=f"'{path.parent.name}'"):
            github(path.parent.name, path.read_bytes())
        return
    told = {"repository": "acme/shop", "clone_urls": HUB_CLONES, **meant}

    assert github(path.parent.name, path.read_bytes()) == GitEvent(forge=ForgeKind.GITHUB, delivery="d-1", **told)


def test_every_payload_of_our_own_is_there_and_has_its_meaning():
    assert {f"{path.parent.name}/{path.stem}" for path in OWN.glob("*/*.json")} == set(MEANT)


def test_real_payloads_are_read_without_a_mistake():
    """Against the payload as it is, read by hand; without the folder those of our own are read this way."""
    for path in sorted(Path(MORE or OWN).glob("*/*.json")):
        event, sent = path.parent.name, json.loads(path.read_bytes())
        if event not in ("push", "pull_request", "merge_group", "ping"):
            with pytest.raises(NotForUs):
                github(event, path.read_bytes())
            continue
        read = github(event, path.read_bytes())
        repository = sent.get("repository") or {}
        assert read.repository == repository.get("full_name", ""), path
        assert all(read.concerns(repository[name]) for name in ("clone_url", "ssh_url") if repository), path
        if event == "push":
            told = (sent["ref"], sent["deleted"], sent["forced"])
            assert (read.ref, read.deleted, read.forced) == told, path
            assert (read.before or NOTHING, read.after or NOTHING) == (sent["before"], sent["after"]), path
        elif event == "pull_request":
            head, base = sent["pull_request"]["head"], sent["pull_request"]["base"]
            assert (read.number, read.after, read.action) == (sent["number"], head["sha"], sent["action"]), path
            assert read.from_fork == (not head["repo"] or head["repo"]["full_name"] != base["repo"]["full_name"]), path
        elif event == "merge_group":
            assert (read.ref, read.after) == (sent["merge_group"]["head_ref"], sent["merge_group"]["head_sha"]), path


PROJECT = {
    "path_with_namespace": "group/sub/shop", "git_http_url": "https://gitlab.com/group/sub/shop.git",
    "git_ssh_url": "git@gitlab.com:group/sub/shop.git",
}  # fmt: skip
LAB = {
    "forge": ForgeKind.GITLAB, "delivery": "d-1", "repository": "group/sub/shop",
    "clone_urls": (PROJECT["git_http_url"], PROJECT["git_ssh_url"]),
}  # fmt: skip
MERGE = {
    "iid": 7, "action": "update", "source_branch": "work", "target_branch": "main", "source_project_id": 5,
    "target_project_id": 5, "last_commit": {"id": B}, "oldrev": A, "source": {"path_with_namespace": "group/sub/shop"},
}  # fmt: skip


@pytest.mark.parametrize(("event", "ref"), [("Push Hook", "refs/heads/main"), ("Tag Push Hook", "refs/tags/v1")])
def test_pushes_of_gitlab_are_read(event: str, ref: str):
    payload = {"object_kind": "push", "ref": ref, "before": NOTHING, "after": B, "project": PROJECT}

    assert gitlab(event, payload) == GitEvent(kind=EventKind.PUSH, ref=ref, after=B, **LAB)


@pytest.mark.parametrize("event", ["Merge Request Hook", "System Hook"])
def test_merge_requests_of_gitlab_are_read(event: str):
    payload = {"object_kind": "merge_request", "object_attributes": MERGE, "project": PROJECT}

    assert gitlab(event, payload) == GitEvent(
        kind=EventKind.PULL_REQUEST, ref="refs/heads/work", before=A, after=B, action="update", number=7,
        base_ref="refs/heads/main", head_repository="group/sub/shop", **LAB,
    )  # fmt: skip


@pytest.mark.parametrize("source", [6, None])
def test_a_merge_request_of_another_project_is_from_a_fork(source: int | None):
    attributes = MERGE | {"source_project_id": source, "source": None}

    assert gitlab("Merge Request Hook", {"object_attributes": attributes, "project": PROJECT}).from_fork


@pytest.mark.parametrize(("event", "kind"), [("Issue Hook", "issue"), ("System Hook", "project_create")])
def test_other_events_of_gitlab_are_not_for_us(event: str, kind: str):
    with pytest.raises(NotForUs):
        gitlab(event, {"object_kind": kind})


PUSH = json.loads((OWN / "push" / "branch.json").read_text())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"ref": "main"}, "ref"),
        ({"ref": "refs/heads/a b"}, "ref"),
        ({"ref": "refs/heads/\x1b[31m"}, "ref"),
        ({"ref": "refs/heads/\u202eniam"}, "ref"),
        ({"ref": "refs/heads/" + "x" * 1100}, "ref"),
        ({"after": "b" * 39}, "after"),
        ({"after": "B" * 40}, "after"),
        ({"after": B + "\n"}, "after"),
        ({"before": None}, "before"),
        ({"before": 7}, "before"),
        ({"repository": {**PUSH["repository"], "full_name": "../shop"}}, "repository.full_name"),
        ({"repository": {**PUSH["repository"], "full_name": "shop"}}, "repository.full_name"),
        ({"repository": {**PUSH["repository"], "full_name": "-o/shop"}}, "repository.full_name"),
        ({"repository": {**PUSH["repository"], "clone_url": "https://a b"}}, "repository.clone_url"),
        ({"repository": []}, "repository"),
    ],
)
def test_a_field_that_is_not_what_it_must_be_is_named_and_not_shown(changed: dict[str, Any], field: str):
    with pytest.raises(Malformed) as fault:
        github("push", json.dumps(PUSH | changed).encode())

    assert fault.value.field == field
    assert "\x1b" not in str(fault.value)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b"\xff", b"payload=%7B%7D", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000]
)
def test_what_is_no_object_of_json_is_malformed(body: bytes):
    with pytest.raises(Malformed):
        github("push", body)


def test_a_body_larger_than_any_forge_sends_is_not_read():
    with pytest.raises(Malformed, match="25 MiB"):
        github("push", b" " * (MAX_PAYLOAD + 1))


def test_what_is_not_needed_may_be_as_odd_as_it_likes():
    odd = PUSH | {"commits": [{"message": "x" * 2**20}, None, 7], "head_commit": {"n": 1e308}, "zen": "\x00"}

    assert github("push", json.dumps(odd).encode()) == github("push", json.dumps(PUSH).encode())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=50)
    | st.sampled_from([A, "refs/heads/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [("ref",), ("after",), ("repository",), ("repository", "full_name"), ("repository", "clone_url")]
)


@given(PATHS, JSON)
def test_whatever_a_field_holds_the_event_is_read_or_refused(path: tuple[str, ...], value: Any):
    payload = json.loads(json.dumps(PUSH))
    inner = payload
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    try:
        read = github("push", json.dumps(payload).encode())
    except (Malformed, NotForUs):
        return
    assert read.ref.startswith("refs/")
    assert read.ref.isprintable()


@given(st.sampled_from(["push", "pull_request", "merge_group", "ping", "other"]), st.binary(max_size=300) | JSON)
def test_whatever_the_body_is_nothing_but_the_two_refusals_is_raised(event: str, body: Any):
    with contextlib.suppress(Malformed, NotForUs):
        github(event, body if isinstance(body, bytes) else json.dumps(body).encode())
