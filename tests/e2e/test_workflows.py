"""The chart's own Workflows and Schedules, switched on by values, watch over real services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import services_at_hand as services
from cluster_at_hand import JsonObject, eventually
from command_line import dawg, dawg_json
from releases import Release, release_beside
from services_at_hand import Mailbox
from stories import Story

MONITORING, AFTER_DEPLOYMENT = "continuous-monitoring", "post-deployment"
REVISION = "deployment.kubernetes.io/revision"
TO_BE_TESTED = {"example.org/tested": "after-rollout"}

VALUES: dict[str, Any] = {
    "api": {"persistence": {"enabled": False}},  # the cluster offers three volumes, to all releases together
    "defaultPool": {"minAgents": 0, "maxAgents": 1},
    "warmPool": {"minAgents": 1, "maxAgents": 1, "slots": 2},
    "builtin": {
        "enabled": True, "maxAgents": 1, "rollback": {"enabled": True}, "secrets": services.secrets_of_steps(),
    },
    "workflows": {
        "notify": {"to": [{"secret": "MAIL"}], "webhooks": [{"secret": "HOOK"}]},
        "continuousMonitoring": {
            "enabled": True, "cron": "* * * * *", "suites": ["diagnosis"],
            "checks": [
                {"name": "shop", "http": {"url": "http://shop:8080/orders", "contains": "open"}},
                {"name": "database", "postgres": {"secret": "POSTGRES"}},
                {"name": "carts", "redis": {"secret": "REDIS"}},
            ],
            "metrics": {"responseTimes": [{"name": "shop", "url": "http://shop:8080/"}]},
        },
        "postDeployment": {"enabled": True, "matchLabels": TO_BE_TESTED, "rollback": True},
    },
    "schedules": {"fullSuite": {"enabled": True}},
}  # fmt: skip


def a_suite(suite: str, shop: str) -> JsonObject:
    """A Workflow of a suite: its one test passes when orders at a shop work."""
    ask = f"python3 -c 'from urllib.request import urlopen; urlopen(\"http://{shop}:8080/orders\", timeout=10)'"
    return {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": f"{shop}-{suite}", "labels": {"dawg.dev/suite": suite}},
        "spec": {"pool": "warm", "tasks": [{"name": "orders", "run": ask}]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """A release that watches over a shop, its database and its carts."""
    image = services.image_of_services()
    there = [
        *services.shop("shop", image), *services.shop("checkout", image, TO_BE_TESTED), *services.postgres(image),
        *services.redis(image), *services.mailbox(image), services.addresses(),
        a_suite("diagnosis", "shop"), a_suite("full", "shop"), a_suite("smoke", "checkout"),
    ]  # fmt: skip
    with release_beside(*there, **VALUES) as release:
        for name in ("shop", "checkout", "postgres", "redis", "mailbox"):
            release.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
        services.until_reached(release.kubectl, shop=8080, checkout=8080, postgres=5432, redis=6379, mailbox=8080)
        yield release


@pytest.fixture(scope="module")
def mailbox(release: Release) -> Iterator[Mailbox]:
    """Where mails and webhooks of that release arrive."""
    with services.opened_mailbox(release.kubectl) as mailbox:
        yield mailbox


@pytest.fixture
def there(release: Release) -> Story:
    """A story in that release's namespace."""
    return Story(release.kubectl)


def started_now(there: Story, schedule: str) -> str:
    """The run that a person starts."""
    return str(dawg_json("schedule", schedule, "--namespace", there.kubectl.namespace)["run"])


def a_period(there: Story) -> tuple[str, JsonObject]:
    """Monitoring looks once, a minute's period being too long for a story; the run and its status."""
    while True:
        run = started_now(there, MONITORING)
        status = there.then_finishes(run)
        if status["verdict"] != "Skipped":  # it is while the run of a due time goes on
            return run, status


def tasks_of(status: JsonObject) -> dict[str, JsonObject]:
    return {entry["name"]: entry for entry in status["tasks"]}


# Continuous monitoring


def test_what_breaks_is_named_and_tested_and_told_once_and_so_is_its_end(
    release: Release, there: Story, mailbox: Mailbox
) -> None:
    _, calm = a_period(there)
    assert (calm["verdict"], tasks_of(calm)["tests"]["verdict"]) == ("Passed", "Skipped")
    assert told(mailbox, MONITORING) == ([], [])

    release.kubectl("scale", "deployment/redis", "--replicas=0")
    eventually(lambda: not release.kubectl.items("pods", "app=redis"), within=60)
    periods = [a_period(there) for _ in range(3)]
    for run, status in periods:
        then_carts_are_named(there, run, status)
        then_suite_was_run(there, status)
    alert = [f"{MONITORING} is not healthy"]
    assert told(mailbox, MONITORING) == (alert, alert)
    assert "carts" in mailbox.mails(MONITORING)[0]["text"]

    release.kubectl("scale", "deployment/redis", "--replicas=1")
    release.kubectl("rollout", "status", "deployment/redis", "--timeout=120s")
    services.until_reached(release.kubectl, redis=6379)
    healed = [a_period(there)[1] for _ in range(2)]
    assert [status["verdict"] for status in healed] == ["Passed", "Passed"], healed
    both = [*alert, f"{MONITORING} has recovered"]
    assert told(mailbox, MONITORING) == (both, both)
    assert services.PASSWORD not in json.dumps([periods, mailbox.mails(""), mailbox.events(MONITORING)])


def told(mailbox: Mailbox, about: str) -> tuple[list[str], list[str]]:
    """What was said of something, by mail and to the webhook."""
    events = [event["data"]["title"] for event in mailbox.events(about)]
    return [mail["subject"] for mail in mailbox.mails(about)], events


def then_carts_are_named(there: Story, run: str, status: JsonObject) -> None:
    """Whoever looks at the run reads which check failed."""
    health = tasks_of(status)["health"]
    assert (status["verdict"], health["verdict"]) == ("Failed", "Failed")
    assert "1 of 3 targets are not healthy: carts" in health["message"]
    assert [failure["test"] for failure in status["topFailures"]] == ["carts"]
    assert "carts" in dawg("status", run, "--namespace", there.kubectl.namespace)


def then_suite_was_run(there: Story, status: JsonObject) -> None:
    """The suite's Workflow has run, and passed: the shop needs no carts for what it tests."""
    tests = tasks_of(status)["tests"]
    assert (tests["verdict"], tests["message"].partition(":")[0]) == ("Passed", "1 runs passed")


# Post-deployment


def test_a_rollout_that_fails_its_smoke_test_is_brought_back_and_no_other(
    release: Release, there: Story, mailbox: Mailbox
) -> None:
    eventually(lambda: "checkout" in triggers_of(release).get("rollouts", {}), within=60)
    release.kubectl("set", "env", "deployment/checkout", "VERSION=2")
    assert verdicts(then_tested(there, 1)) == [("2", "Passed")]

    release.kubectl("set", "env", "deployment/checkout", "ORDERS=broken")
    runs = then_tested(there, 3)
    assert verdicts(runs) == [("2", "Passed"), ("3", "Failed"), ("4", "Passed")]
    then_was_brought_back(release, tasks_of(runs[1]["status"]))
    about = "deployment of checkout"
    news = [f"{about} is not healthy", f"{about} has recovered"]
    assert told(mailbox, about) == (news, news)
    assert "rollback: Passed StepDone: Deployment checkout is back" in mailbox.mails(about)[0]["text"]

    # No pod of it ever starts, so it is never rolled out, and what serves goes on to serve.
    release.kubectl("set", "image", "deployment/checkout", "checkout=localhost/no-such-image:1")
    eventually(lambda: "checkout" in waiting_for_image(release), within=60)
    release.kubectl("rollout", "undo", "deployment/checkout")
    assert [revision for revision, _ in verdicts(then_tested(there, 4))] == ["2", "3", "4", "6"]
    assert triggers_of(release)["rollouts"]["checkout"].endswith("/6"), "something is left to be answered"


def triggers_of(release: Release) -> JsonObject:
    """What the Workflow has noted of what started it."""
    workflow = release.kubectl.get("workflows.dawg.dev", AFTER_DEPLOYMENT)
    return ((workflow or {}).get("status") or {}).get("triggers") or {}


def then_tested(there: Story, count: int) -> list[JsonObject]:
    """The runs for what was rolled out after the release, in its order, once so many have their verdicts."""

    def look() -> list[JsonObject]:
        runs = [run for run in there.kubectl.items("testruns") if is_for_checkout(run) and revision_of(run) != "1"]
        ended = [run for run in runs if (run.get("status") or {}).get("verdict")]
        return sorted(runs, key=revision_of) if len(ended) == len(runs) >= count else []

    return eventually(look, within=180, told=lambda: str(there.kubectl.get("deployment", "checkout")))


def is_for_checkout(run: JsonObject) -> bool:
    return run["metadata"].get("annotations", {}).get("dawg.dev/triggered-by") == "deployment checkout"


def revision_of(run: JsonObject) -> str:
    return str(run["spec"]["parameters"]["revision"])


def verdicts(runs: list[JsonObject]) -> list[tuple[str, str]]:
    return [(revision_of(run), run["status"]["verdict"]) for run in runs]


def then_was_brought_back(release: Release, tasks: dict[str, JsonObject]) -> None:
    """The run says so, and the Deployment is as it was."""
    assert (tasks["smoke"]["verdict"], tasks["rollback"]["verdict"]) == ("Failed", "Passed")
    assert "Deployment checkout is back at what was revision 2" in tasks["rollback"]["message"]
    deployment = release.kubectl.get("deployment", "checkout")
    assert deployment is not None
    assert deployment["metadata"]["annotations"][REVISION] == "4"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "VERSION", "value": "2"}]


def waiting_for_image(release: Release) -> set[str]:
    """The containers whose image is not to be had."""
    pods = release.kubectl.items("pods", "app=checkout")
    found = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
    return {status["name"] for status in found
            if "Image" in status["state"].get("waiting", {}).get("reason", "")}  # fmt: skip


# Schedules


def test_the_full_suite_is_started_by_hand_and_the_list_says_when_it_ran_and_will(
    release: Release, there: Story
) -> None:
    run = started_now(there, "full-suite")

    status = there.then_finishes(run)
    assert (status["verdict"], tasks_of(status)["tests"]["message"].partition(":")[0]) == ("Passed", "1 runs passed")
    columns = "custom-columns=LAST:.status.lastScheduleTime,NEXT:.status.nextScheduleTime,START:.status.predictedStart"
    printed = release.kubectl("get", "dsc", "full-suite")
    heading, row = printed.splitlines()
    assert [name in heading for name in ("LAST", "NEXT", "PREDICTED START")] == [True] * 3
    last, following, predicted = release.kubectl("get", "dsc", "full-suite", "-o", columns).split()[3:]
    assert following == predicted
    assert following.endswith("T02:00:00Z")
    assert row.count(following) == 2
    assert last < following
