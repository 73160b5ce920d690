"""A push becomes a run, and the run holds the merge on a real forge, or allows it."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_at_hand import JsonObject, eventually
from command_line import dawg
from gitea import Person
from giteapod import ForgeInCluster, in_cluster
from releases import Release, release_beside
from repositories import git
from stories import Story

WORKFLOW = "pre-release-testing"
CONTEXT = f"dawg/{WORKFLOW}"
PUSHES = int(os.environ.get("DAWG_GATE_PUSHES", "3"))  # whose way to the forge is measured
HOOK_SECRET = secrets.token_hex(16)
PASSES, FAILS = "assert 1 + 1 == 2\n", "assert 1 + 1 == 3, 'one and one is two'\n"


@pytest.fixture(scope="module")
def forge(test_image: str) -> Iterator[ForgeInCluster]:
    """A real Gitea."""
    with in_cluster(test_image) as forge:
        yield forge


@pytest.fixture(scope="module")
def developer(forge: ForgeInCluster) -> Person:
    """Who pushes."""
    return forge.people.make_person("ada")


@pytest.fixture(scope="module")
def repository(forge: ForgeInCluster, developer: Person, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A public repository whose branch main is protected, and a clone."""
    name = forge.people.make_repository(developer, "shop")
    work = tmp_path_factory.mktemp("shop")
    git(work, "init", "--quiet", "--initial-branch=main")
    commit(work, PASSES)
    forge.people.push(work, name, "main:main", by=developer)
    forge.people.protect(name, "main", CONTEXT)
    return name, work


@pytest.fixture(scope="module")
def release(forge: ForgeInCluster, developer: Person, repository: tuple[str, Path]) -> Iterator[Release]:
    """A release whose pre-release-testing looks at that repository, is told by the forge, and holds the merge."""
    name, _ = repository
    url = forge.clone_url(name)
    robot = forge.people.make_token(developer.name, ["write:repository", "read:user"])
    trigger = {"url": url, "branches": ["feature/*"], "poll": "1h", "webhook": True, "gate": {},
               "webhookSecretRef": {"name": "hook"}}  # fmt: skip
    values: dict[str, Any] = {
        "api": {"persistence": {"enabled": False}},
        "defaultPool": {"minAgents": 0, "maxAgents": 1},
        "warmPool": {"enabled": True, "minAgents": 1, "maxAgents": 1, "slots": 2},
        "builtin": {"enabled": True, "maxAgents": 1, "forgeSecrets": ["forge"]},
        "webhooks": {"enabled": True},
        "workflows": {"preReleaseTesting": {"enabled": True, "suites": ["unit"], "git": [trigger]}},
    }
    with release_beside(*_secrets(forge, robot, name), a_suite(), **values) as release:
        eventually(lambda: watching(release)[0] == "True", within=120, told=lambda: str(watching(release)))
        hook = f"http://{release.name}-dawg-api.{release.namespace}.svc:8082/hooks/{release.namespace}/{WORKFLOW}"
        forge.people.add_webhook(name, hook, HOOK_SECRET, ["push"])
        yield release


def _secrets(forge: ForgeInCluster, token: str, repository: str) -> list[JsonObject]:
    keys = {"type": "gitea", "url": forge.url, "allow-http": "true", "token": token, "repositories": repository,
            "workflows": WORKFLOW}  # fmt: skip
    return [
        {"apiVersion": "v1", "kind": "Secret", "stringData": keys,
         "metadata": {"name": "forge", "labels": {"dawg.dev/for-steps": "true"}}},
        {"apiVersion": "v1", "kind": "Secret", "stringData": {"secret": HOOK_SECRET},
         "metadata": {"name": "hook", "labels": {"dawg.dev/for-webhooks": "true"}}},
    ]  # fmt: skip


def a_suite() -> JsonObject:
    """The tests of the repository."""
    spec = {"pool": "warm", "tasks": [{"name": "unit", "run": "python3 check.py", "critical": True}]}
    metadata = {"name": "shop-unit", "labels": {"dawg.dev/suite": "unit"}}
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}


def commit(work: Path, check: str) -> str:
    (work / "check.py").write_text(check)
    git(work, "add", "-A")
    git(work, "commit", "--quiet", "-m", "change")
    return git(work, "rev-parse", "HEAD")


def watching(release: Release) -> tuple[str, str]:
    """The condition of that name: its status and message."""
    found = release.kubectl.get("workflows.dawg.dev", WORKFLOW) or {}
    conditions = (found.get("status") or {}).get("conditions", [])
    return next(((c["status"], c["message"]) for c in conditions if c["type"] == "Watching"), ("", ""))


def shown(forge: ForgeInCluster, repository: str, commit: str) -> dict[str, Any] | None:
    """What the forge shows for a commit: the newest of each context."""
    combined = forge.people.call("GET", f"/repos/{repository}/commits/{commit}/status")
    return next((one for one in combined["statuses"] or () if one["context"] == CONTEXT), None)


def run_of(release: Release, commit: str) -> str:
    """The run that tests the commit, once it is there."""

    def look() -> str | None:
        for run in release.kubectl.items("testruns"):
            git_source = (run["spec"].get("source") or {}).get("git") or {}
            if "gate" in run["spec"] and git_source.get("revision") == commit:
                return str(run["metadata"]["name"])
        return None

    return eventually(look, within=60) or ""


def test_a_failing_push_holds_the_merge_with_a_reason_and_the_fix_allows_it(
    forge: ForgeInCluster, developer: Person, repository: tuple[str, Path], release: Release
) -> None:
    name, work = repository
    there = Story(release.kubectl)
    git(work, "checkout", "--quiet", "-b", "feature/sum")
    broken = commit(work, FAILS)

    forge.people.push(work, name, "feature/sum:feature/sum", by=developer)
    pushed = time.monotonic()
    first = eventually(lambda: shown(forge, name, broken), within=60)
    print(f"the forge shows {first['status']} {time.monotonic() - pushed:.2f} s after the push")
    number = forge.people.open_pull_request(name, "feature/sum", by=developer)
    run = run_of(release, broken)
    status = there.then_finishes(run)
    eventually(
        lambda: shown(forge, name, broken)["status"] == "failure", within=60,
        told=lambda: f"{shown(forge, name, broken)} {there.status(run)['gate']}",
    )  # fmt: skip

    blocked = next(c for c in status["conditions"] if c["type"] == "MergeAllowed")
    assert (status["verdict"], status["mergeBlocked"], blocked["status"]) == ("Failed", True, "False")
    assert blocked["message"] == "tests is Failed"
    assert f"dawg why {run}" in shown(forge, name, broken)["description"]
    refused = forge.people.merge(name, number, developer)
    assert refused.status_code == 405, refused.text
    eventually(lambda: there.status(run)["gate"].get("published"), within=30)
    assert (there.status(run)["gate"]["state"], there.status(run)["gate"]["reason"]) == ("Closed", "MergeBlocked")
    assert f"Closed, MergeBlocked: tests is Failed; shown at {forge.url}/" in " ".join(
        dawg("status", run, "--namespace", release.namespace).split()
    )

    predicted = next(entry for entry in status["tasks"] if entry["name"] == "predict")
    assert predicted["verdict"] == "Passed", predicted
    assert (status["risk"]["level"], status["risk"]["source"]) == ("medium", "rules")
    assert "medium: check.py is code" in status["risk"]["reasons"]
    assert "risk medium by rules" in " ".join(dawg("status", run, "--namespace", release.namespace).split())
    (suite,) = release.kubectl.items("testruns", f"dawg.dev/parent-uid={there.uid('testruns', run)}")
    assert (suite["spec"]["priority"], suite["status"]["risk"]["level"]) == ("medium", "medium")
    assert suite["status"]["risk"]["reasons"] == [f"as of {run}"]

    fixed = commit(work, PASSES)
    forge.people.push(work, name, "feature/sum:feature/sum", by=developer)
    allowed = there.then_finishes(run_of(release, fixed))
    assert (allowed["verdict"], allowed["mergeBlocked"]) == ("Passed", False), [
        (entry["name"], entry["verdict"], entry["message"]) for entry in allowed["tasks"]
    ]
    eventually(
        lambda: (shown(forge, name, fixed) or {}).get("status") == "success", within=60,
        told=lambda: f"{shown(forge, name, fixed)} {there.status(run_of(release, fixed))['gate']}",
    )  # fmt: skip

    merged = forge.people.merge(name, number, developer)
    assert merged.is_success, merged.text


def test_a_branch_that_nobody_asked_for_starts_nothing_and_its_merge_is_held(
    forge: ForgeInCluster, developer: Person, repository: tuple[str, Path], release: Release
) -> None:
    name, work = repository
    git(work, "checkout", "--quiet", "-B", "other", "main")
    other = commit(work, PASSES + "# other\n")
    forge.people.push(work, name, "other:other", by=developer)
    number = forge.people.open_pull_request(name, "other", by=developer)

    git(work, "checkout", "--quiet", "-B", "feature/later", "main")
    later = commit(work, PASSES + "# later\n")
    forge.people.push(work, name, "feature/later:feature/later", by=developer)
    Story(release.kubectl).then_finishes(run_of(release, later))

    assert shown(forge, name, other) is None
    assert forge.people.merge(name, number, developer).status_code == 405


def test_an_override_lets_a_merge_through_that_the_tests_hold(
    forge: ForgeInCluster, developer: Person, repository: tuple[str, Path], release: Release
) -> None:
    name, work = repository
    git(work, "checkout", "--quiet", "-B", "feature/urgent", "main")
    urgent = commit(work, FAILS + "# urgent\n")
    forge.people.push(work, name, "feature/urgent:feature/urgent", by=developer)
    number = forge.people.open_pull_request(name, "feature/urgent", by=developer)
    run = run_of(release, urgent)
    assert Story(release.kubectl).then_finishes(run)["mergeBlocked"]
    eventually(lambda: (shown(forge, name, urgent) or {}).get("status") == "failure", within=60)
    assert forge.people.merge(name, number, developer).status_code == 405

    dawg("override", run, "--reason", "the site is down, see ticket 12", "--namespace", release.namespace)

    eventually(
        lambda: (shown(forge, name, urgent) or {}).get("status") == "success", within=60,
        told=lambda: str(Story(release.kubectl).status(run)["gate"]),
    )  # fmt: skip
    told = shown(forge, name, urgent)["description"]
    assert told.startswith("overridden by ")
    assert told.endswith(": the site is down, see ticket 12")
    assert Story(release.kubectl).status(run)["verdict"] == "Failed"
    merged = forge.people.merge(name, number, developer)
    assert merged.is_success, merged.text


def test_a_push_shows_pending_soon_after_its_webhook(
    forge: ForgeInCluster, developer: Person, repository: tuple[str, Path], release: Release
) -> None:
    name, work = repository
    git(work, "checkout", "--quiet", "-B", "feature/often", "main")
    there, seconds = Story(release.kubectl), []
    for number in range(PUSHES):
        pushed = commit(work, f"{PASSES}# {number}\n")
        forge.people.push(work, name, "feature/often:feature/often", by=developer)
        first = eventually(lambda commit=pushed: shown(forge, name, commit), within=60, every=0.02)
        seen = time.time()
        told = eventually(lambda commit=pushed: forge.delivered(commit), within=30)
        seconds.append(seen - told)
        assert first["status"] == "pending"
        last = there.then_finishes(run_of(release, pushed))  # or the next one would be measured beside its tests

    messages = {entry["name"]: entry["message"] for entry in last["tasks"]}
    assert "nothing for a model" not in messages["analyze"]  # what the commit is like has come to history
    assert "there is no model: " in messages["predict"]
    print(f"pending, seconds after the webhook was answered: {sorted(round(one, 2) for one in seconds)}")
