"""A pull request becomes a run that its forge shows on the head; a stranger's runs only once somebody has read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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

CHECKS, CAREFUL = "checks", "careful"  # the first asks before it runs what strangers bring, the second never does
PASSES = "assert 1 + 1 == 2\n"


@dataclass(frozen=True)
class Shop:
    """A public repository on a real Gitea, a clone, who owns it, and a stranger with a fork."""

    forge: ForgeInCluster
    name: str
    work: Path
    owner: Person
    stranger: Person
    fork: str

    def commit_on(self, branch: str, text: str) -> str:
        """A commit on a branch of its own, from main on."""
        git(self.work, "checkout", "--quiet", "-B", branch, "main")
        (self.work / "check.py").write_text(text)
        git(self.work, "commit", "--quiet", "--all", "-m", "change")
        return git(self.work, "rev-parse", "HEAD")

    def shown(self, commit: str, workflow: str) -> str | None:
        """How the forge shows the commit under the Workflow's context."""
        combined = self.forge.people.call("GET", f"/repos/{self.name}/commits/{commit}/status")
        context = f"dawg/{workflow}"
        return next((one["status"] for one in combined["statuses"] or () if one["context"] == context), None)


@pytest.fixture(scope="module")
def shop(test_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The forge and what lies there."""
    with in_cluster(test_image) as forge:
        owner, stranger = forge.people.make_person("ada"), forge.people.make_person("mallory")
        name = forge.people.make_repository(owner, "shop")
        work = tmp_path_factory.mktemp("shop")
        git(work, "init", "--quiet", "--initial-branch=main")
        (work / "check.py").write_text(PASSES)
        git(work, "add", "-A")
        git(work, "commit", "--quiet", "-m", "begin")
        forge.people.push(work, name, "main:main", by=owner)
        yield Shop(forge, name, work, owner, stranger, forge.people.fork(name, stranger))


@pytest.fixture(scope="module")
def release(shop: Shop) -> Iterator[Release]:
    """A release with two Workflows for the repository's pull requests."""
    robot = shop.forge.people.make_token(shop.owner.name, ["write:repository", "read:user"])
    keys = {"type": "gitea", "url": shop.forge.url, "allow-http": "true", "token": robot, "repositories": shop.name,
            "workflows": f"{CHECKS}\n{CAREFUL}"}  # fmt: skip
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": keys,
              "metadata": {"name": "forge", "labels": {"dawg.dev/for-steps": "true"}}}  # fmt: skip
    values: dict[str, Any] = {
        "api": {"persistence": {"enabled": False}},
        "defaultPool": {"minAgents": 0, "maxAgents": 1},
        "warmPool": {"enabled": True, "minAgents": 1, "maxAgents": 1, "slots": 2},
        "builtin": {"enabled": True, "maxAgents": 1, "forgeSecrets": ["forge"]},
    }
    workflows = a_workflow(shop, CHECKS, "Approved"), a_workflow(shop, CAREFUL, "Never")
    with release_beside(secret, *workflows, **values) as release:
        for name in (CHECKS, CAREFUL):
            eventually(lambda: watching(release, name)[0] == "True", within=120,  # noqa: B023
                       told=lambda: str(watching(release, name)))  # noqa: B023  # fmt: skip
        yield release


def a_workflow(shop: Shop, name: str, forks: str) -> JsonObject:
    trigger = {"url": shop.forge.clone_url(shop.name), "branches": ["main"], "poll": "5s", "forks": forks, "gate": {}}
    task = {"name": "unit", "run": 'echo "pull request $DAWG_PARAM_PULLREQUEST" && python3 check.py', "critical": True}
    spec = {"pool": "warm", "parameters": [{"name": "pullRequest"}, {"name": "head"}], "tasks": [task],
            "triggers": [{"pullRequest": trigger}]}  # fmt: skip
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}


def watching(release: Release, workflow: str) -> tuple[str, str]:
    """The condition of that name: its status and message."""
    found = release.kubectl.get("workflows.dawg.dev", workflow) or {}
    conditions = (found.get("status") or {}).get("conditions", [])
    return next(((c["status"], c["message"]) for c in conditions if c["type"] == "Watching"), ("", ""))


def runs_of(release: Release, workflow: str, commit: str) -> list[JsonObject]:
    """The runs of the Workflow that test the commit."""
    return [
        run for run in release.kubectl.items("testruns")
        if run["spec"]["workflowRef"]["name"] == workflow and run["spec"]["source"]["git"]["revision"] == commit
    ]  # fmt: skip


def test_a_pull_request_is_tested_and_its_head_shows_the_verdict(shop: Shop, release: Release) -> None:
    head = shop.commit_on("sum", PASSES + "# more\n")
    shop.forge.people.push(shop.work, shop.name, "sum:sum", by=shop.owner)
    number = shop.forge.people.open_pull_request(shop.name, "sum", by=shop.owner)

    eventually(lambda: runs_of(release, CHECKS, head), within=60, told=lambda: str(watching(release, CHECKS)))
    (run,) = runs_of(release, CHECKS, head)
    status = Story(release.kubectl).then_finishes(run["metadata"]["name"])

    assert (status["verdict"], status["mergeBlocked"]) == ("Passed", False)
    assert run["spec"]["parameters"] == {"pullRequest": str(number), "head": head}
    eventually(lambda: shop.shown(head, CHECKS) == "success", within=60, told=lambda: str(shop.shown(head, CHECKS)))
    assert len(runs_of(release, CHECKS, head)) == 1


def test_a_strangers_commit_runs_only_where_and_when_somebody_has_allowed_it(shop: Shop, release: Release) -> None:
    head = shop.commit_on("gift", PASSES + "# a gift\n")
    shop.forge.people.push(shop.work, shop.fork, "gift:gift", by=shop.stranger)
    number = shop.forge.people.open_pull_request(shop.name, f"{shop.stranger.name}:gift", by=shop.stranger)

    for workflow, why in ((CHECKS, f"commit {head} waits for an approval"), (CAREFUL, "forks is Never")):
        eventually(lambda: why in watching(release, workflow)[1], within=60,  # noqa: B023
                   told=lambda: str(watching(release, workflow)))  # noqa: B023  # fmt: skip
        assert runs_of(release, workflow, head) == []
        assert shop.shown(head, workflow) is None

    said = dawg("approve-fork", CHECKS, str(number), head, "--namespace", release.namespace)
    assert f"pull request {number} may run at {head[:12]}" in said
    eventually(lambda: runs_of(release, CHECKS, head), within=60, told=lambda: str(watching(release, CHECKS)))
    (run,) = runs_of(release, CHECKS, head)
    assert Story(release.kubectl).then_finishes(run["metadata"]["name"])["verdict"] == "Passed"
    eventually(lambda: shop.shown(head, CHECKS) == "success", within=60, told=lambda: str(shop.shown(head, CHECKS)))

    later = shop.commit_on("gift", PASSES + "# another gift\n")
    shop.forge.people.push(shop.work, shop.fork, "+gift:gift", by=shop.stranger)
    eventually(lambda: f"commit {later} waits for an approval" in watching(release, CHECKS)[1], within=60,
               told=lambda: str(watching(release, CHECKS)))  # fmt: skip
    assert runs_of(release, CHECKS, later) == runs_of(release, CAREFUL, later) == runs_of(release, CAREFUL, head) == []
