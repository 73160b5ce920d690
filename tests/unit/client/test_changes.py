"""Which change starts which run."""

from __future__ import annotations

from typing import Any

import pytest

from dawg_orchestrator.client.changes import (
    Debounce,
    Start,
    address_for_the_cluster,
    replaces_files,
    run_for,
    template_of,
    what_to_start,
)
from dawg_orchestrator.client.worktree import State
from dawg_orchestrator.errors import InvalidSpec

CLEAN = State(head="1" * 40, branch="main", head_tree="t1", tree="t1")
EDITED = State(head="1" * 40, branch="main", head_tree="t1", tree="edited")
COMMITTED = State(head="2" * 40, branch="main", head_tree="edited", tree="edited")
BOTH = State(head="2" * 40, branch="main", head_tree="t2", tree="more")


@pytest.mark.parametrize(
    ("before", "now", "kinds"),
    [
        (CLEAN, CLEAN, []),
        (CLEAN, EDITED, ["files"]),
        (EDITED, EDITED, []),
        (EDITED, CLEAN, []),
        (EDITED, COMMITTED, ["commit"]),
        (CLEAN, COMMITTED, ["commit"]),
        (CLEAN, BOTH, ["commit", "files"]),
    ],
    ids=["nothing", "edited", "as before", "taken back", "committed", "both at once", "committed and edited"],
)
def test_a_change_starts_what_has_not_been_tested(before: State, now: State, kinds: list[str]) -> None:
    assert [start.kind for start in what_to_start(before, now)] == kinds


def test_files_that_are_no_longer_so_need_no_test() -> None:
    assert not replaces_files(EDITED, EDITED)
    assert all(replaces_files(EDITED, now) for now in (CLEAN, COMMITTED, BOTH))


def test_changes_are_looked_at_once_they_are_quiet() -> None:
    debounce = Debounce(delay=1, most=10)

    assert not debounce.due(0)
    debounce.touched(0)
    debounce.touched(0.9)
    assert not debounce.due(1.8)
    assert debounce.due(1.9)
    assert not debounce.due(5)


def test_changes_without_end_are_looked_at_in_time() -> None:
    debounce = Debounce(delay=1, most=10)

    looked = []
    for tenth in range(250):
        debounce.touched(tenth / 10)
        if debounce.due(tenth / 10):
            looked.append(tenth / 10)

    assert looked == [10.0, 20.1]


def test_a_run_tests_the_published_commit_with_the_patch_on_top() -> None:
    template = {
        "pool": "quick", "gate": {"repository": "org/repo"}, "workflowRef": {"name": "checks"},
        "source": {"git": {"url": "https://old", "credentialsSecretRef": {"name": "git"}}},
    }  # fmt: skip
    git = {"url": "https://git.example/shop.git", "revision": "0" * 40}

    run = run_for(template, Start("commit", COMMITTED), namespace="team", git=git, patch="sha256:x", watch="shop")

    assert run["metadata"]["namespace"] == "team"
    assert run["metadata"]["generateName"] == "watch-2222222-"
    assert run["metadata"]["annotations"]["dawg.dev/watched-commit"] == COMMITTED.head
    assert run["spec"] == {
        "pool": "quick", "workflowRef": {"name": "checks"},
        "source": {"git": {**git, "credentialsSecretRef": {"name": "git"}}, "patchRef": "sha256:x"},
    }  # fmt: skip
    assert "gate" in template


def test_a_run_of_what_the_server_has_needs_no_patch_and_keeps_its_gate() -> None:
    run = run_for({"gate": {"repository": "r"}}, Start("commit", CLEAN), namespace="n", git={}, patch=None, watch="w")

    assert run["spec"] == {"gate": {"repository": "r"}, "source": {"git": {}}}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://git.example/shop.git", "https://git.example/shop.git"),
        ("https://ann:token@git.example/shop.git", "https://git.example/shop.git"),
        ("git@git.example:shop.git", "git@git.example:shop.git"),
        ("ssh://git@git.example/shop.git", "ssh://git@git.example/shop.git"),
    ],
)
def test_the_cluster_is_told_an_address_without_a_password(url: str, address: str) -> None:
    assert address_for_the_cluster(url) == address


@pytest.mark.parametrize("url", ["/srv/git/shop.git", "../shop.git", "file:///srv/shop.git", "ext::sh -c id", "-x"])
def test_an_address_that_no_cluster_can_reach_is_refused(url: str) -> None:
    with pytest.raises(InvalidSpec, match=r"--url"):
        address_for_the_cluster(url)


@pytest.mark.parametrize(
    ("document", "workflow", "parameters", "flag"),
    [
        (None, None, {}, "--workflow"),
        ({"spec": {}}, "checks", {}, "--workflow"),
        ({"spec": {}}, None, {"a": "b"}, "--param"),
        ({}, None, {}, "run.yaml: spec"),
    ],
)
def test_what_to_run_is_said_once(document: Any, workflow: str | None, parameters: Any, flag: str) -> None:
    with pytest.raises(InvalidSpec, match=flag):
        template_of(document, workflow, parameters, "run.yaml")


def test_a_workflow_gets_its_parameters() -> None:
    assert template_of(None, "checks", {"a": "b"}, "-f") == {
        "workflowRef": {"name": "checks"}, "parameters": {"a": "b"},
    }  # fmt: skip
