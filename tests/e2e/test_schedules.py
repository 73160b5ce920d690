"""Schedules: what starts when nobody looks, and what a person starts."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from cluster_at_hand import JsonObject, Kubectl, eventually
from command_line import dawg, dawg_json
from dawg_orchestrator.resources.model import parse_time
from doors import CONTROLLER_PODS
from realsuites.gitserver import FOLDER, NAME, PLAIN, serving
from repositories import Repository, git, new_repository
from stories import Story, task

EVERY_MINUTE = ["* * * * *"]
NEVER_SOON = ["0 0 29 2 *"]
DUE_WITHIN = 100.0  # seconds: a minute, and the run


@pytest.fixture(scope="module")
def slots(shared: Story) -> str:
    """A warm pool for the stories of this file."""
    return shared.given_pool(executor="Process", minAgents=1, maxAgents=1, slots=2)


def given_schedule(story: Story, pool: str, cron: list[str], *tasks: JsonObject, **spec: Any) -> str:
    """A Schedule of these tasks; returns its name."""
    name = f"schedule-{story.mark}"
    run = {"pool": pool, "tasks": list(tasks) or [task()]}
    template = {"metadata": {"labels": {"team": "checkout"}}, "spec": run}
    story.given({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Schedule",
        "metadata": {"name": name, "namespace": story.kubectl.namespace},
        "spec": {"cron": cron, "runTemplate": template, **spec},
    })  # fmt: skip
    return name


def status_of(story: Story, schedule: str) -> JsonObject:
    found = story.kubectl.get("schedules.dawg.dev", schedule)
    assert found is not None
    status: JsonObject = found.get("status") or {}
    return status


def runs_of(story: Story, schedule: str) -> list[JsonObject]:
    return story.kubectl.items("testruns.dawg.dev", f"dawg.dev/schedule={schedule}")


def test_a_due_time_starts_one_run_that_is_named_after_it_and_passes(story: Story, slots: str) -> None:
    schedule = given_schedule(story, slots, EVERY_MINUTE)

    first = eventually(
        lambda: runs_of(story, schedule), within=DUE_WITHIN, told=lambda: str(status_of(story, schedule))
    )[0]
    story.then_finishes(first["metadata"]["name"], within=30)

    status = status_of(story, schedule)
    due = first["metadata"]["annotations"]["dawg.dev/due"]
    stamp = "".join(character for character in due if character.isdigit())[:12]
    assert first["metadata"]["name"].startswith(f"{schedule}-{stamp}-")
    assert first["metadata"]["labels"]["team"] == "checkout"
    assert status["lastScheduleTime"] >= due
    assert status["nextScheduleTime"] > due
    assert status["conditions"][0]["reason"] == "Scheduled"


def test_a_suspended_schedule_starts_its_run_for_a_person_and_keeps_as_many_as_it_should(
    story: Story, slots: str
) -> None:
    limits = {"successfulRunsHistoryLimit": 1}
    schedule = given_schedule(story, slots, NEVER_SOON, suspend=True, **limits)

    asked = [dawg_json("schedule", schedule)["run"] for _ in range(3)]

    def kept() -> list[JsonObject]:
        runs = runs_of(story, schedule)
        return runs if len(runs) == 1 and "active" not in status_of(story, schedule) else []

    (run,) = eventually(kept, within=60, told=lambda: str((runs_of(story, schedule), status_of(story, schedule))))
    assert run["metadata"]["name"] in asked
    listed = next(line for line in dawg("schedules").splitlines() if schedule in line)
    assert "Suspended" in listed


def test_a_schedule_that_cannot_be_followed_says_what_is_wrong_with_it(story: Story, slots: str) -> None:
    schedule = given_schedule(story, slots, ["61 2 * * *"], timezone="Europe/Berlin")

    condition = eventually(lambda: (status_of(story, schedule).get("conditions") or [None])[0], within=30)

    assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
    assert condition["message"].startswith("spec.cron[0]: '61 2 * * *'")


def test_the_run_of_an_earlier_time_is_left_alone_and_the_later_time_is_recorded(story: Story, slots: str) -> None:
    schedule = given_schedule(story, slots, EVERY_MINUTE, task(run="sleep 600"))
    dawg("schedule", schedule)

    missed = eventually(
        lambda: status_of(story, schedule).get("missed"),
        within=DUE_WITHIN,
        told=lambda: str(status_of(story, schedule)),
    )
    (run,) = runs_of(story, schedule)

    assert missed[0]["reason"] == "StillActive"
    assert run["metadata"]["name"] in missed[0]["message"]


def test_a_smart_schedule_without_history_starts_at_its_due_time_and_says_so(story: Story, slots: str) -> None:
    schedule = given_schedule(story, slots, EVERY_MINUTE, smart={"window": "50s"})

    status = eventually(
        lambda: (
            status if "no history yet" in (status := status_of(story, schedule)).get("predictionReason", "") else {}
        ),
        within=DUE_WITHIN,
        told=lambda: str(status_of(story, schedule)),
    )
    run = eventually(lambda: runs_of(story, schedule), within=DUE_WITHIN)[0]

    assert status["predictedStart"] == status["nextScheduleTime"]
    listed = next(line for line in dawg("schedules").splitlines() if schedule in line)
    assert "Scheduled" in listed
    due = parse_time(run["metadata"]["annotations"]["dawg.dev/due"])
    assert timedelta() <= parse_time(run["metadata"]["creationTimestamp"]) - due <= timedelta(seconds=10)


@dataclass(frozen=True)
class Served:
    """A public repository in the cluster."""

    namespace: str
    url: str
    repository: Repository

    def push(self, commit: str) -> None:
        """Its `main` moves to a commit that it has."""
        inside = ["exec", f"deployment/{NAME}", "--container", PLAIN.name, "--"]
        Kubectl(self.namespace)(*inside, "git", "-C", f"{FOLDER}/shop.git", "branch", "--force", "main", commit)


@pytest.fixture
def served(test_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Such a repository, of whose `main` the last commit was not pushed yet."""
    repository, namespace = new_repository(tmp_path_factory.mktemp("git")), f"dawg-git-{secrets.token_hex(3)}"
    git(repository.bare, "update-ref", "refs/heads/main", repository.commits[1])
    git(repository.bare, "update-ref", "refs/heads/later", repository.commits[2])
    with serving(repository.bare.parent, test_image, namespace) as host:
        yield Served(namespace, f"http://{host}/shop.git", repository)


def given_schedule_of_commits(story: Story, slots: str, served: Served) -> str:
    """A Schedule of a Workflow, whose pool for forges looks at the repository."""
    builtin = story.given_pool(executor="Builtin", minAgents=1, maxAgents=1)
    workflow = f"tests-{story.mark}"
    story.given({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": workflow, "namespace": story.kubectl.namespace},
        "spec": {"pool": slots, "builtinPools": {"forge": builtin}, "tasks": [task()]},
    })  # fmt: skip
    run = {"workflowRef": {"name": workflow}, "source": {"git": {"url": served.url, "revision": "main"}}}
    name = f"schedule-{story.mark}"
    story.given({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Schedule",
        "metadata": {"name": name, "namespace": story.kubectl.namespace},
        "spec": {"cron": EVERY_MINUTE, "when": "commitsSince > 0", "runTemplate": {"spec": run}},
    })  # fmt: skip
    return name


def test_a_schedule_of_commits_starts_after_a_push_and_records_the_due_times_without_one(
    story: Story, slots: str, served: Served
) -> None:
    def status() -> JsonObject:
        return status_of(story, schedule)

    def told() -> str:
        return json.dumps(status())

    def idle() -> list[JsonObject]:
        return [entry for entry in status().get("missed", []) if entry["reason"] == "NoNewCommits"]

    old, new = served.repository.commits[1:3]
    schedule = given_schedule_of_commits(story, slots, served)
    story.then_finishes(dawg_json("schedule", schedule)["run"], within=60)
    eventually(lambda: (status().get("branch") or {}).get("commitsSince") == 0, within=60, told=told)
    before = len(runs_of(story, schedule))
    (missed,) = eventually(idle, within=DUE_WITHIN, told=told)
    assert old[:12] in missed["message"]
    assert len(runs_of(story, schedule)) == before

    served.push(new)

    def started() -> list[JsonObject]:
        runs = runs_of(story, schedule)
        return [run for run in runs if f"1 commit since {old[:12]}" in str(run["metadata"]["annotations"])]

    (run,) = eventually(started, within=DUE_WITHIN + 60, told=told)
    ended = story.then_finishes(run["metadata"]["name"], within=60)
    assert (ended["verdict"], ended["source"]["commit"]) == ("Passed", new)
    assert eventually(lambda: (status().get("tested") or {}).get("commit") == new, within=30, told=told)
    told_of = f'"commit": "{new}"'
    assert eventually(
        lambda: [line for line in logged("commitDetected") if told_of in line and served.url in line], within=10
    )


def logged(event: str) -> list[str]:
    """Lines that controllers have logged."""
    text = Kubectl()("logs", f"--selector={CONTROLLER_PODS}", "--tail=-1")
    return [line for line in text.splitlines() if f'"event": "{event}"' in line]
