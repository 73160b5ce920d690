"""A run of a Workflow consists of what was frozen for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from apiserver_double import ApiserverDouble, JsonObject, a_task
from dawg_orchestrator.api import follow
from dawg_orchestrator.api.contents import Contents, lacks_tasks
from dawg_orchestrator.api.follow import Follower
from dawg_orchestrator.api.metrics import Metrics
from dawg_orchestrator.api.queue import live_run, queue_entries
from dawg_orchestrator.cluster.client import CONTROLLER_REVISIONS, Resource
from dawg_orchestrator.errors import Forbidden, Unavailable
from dawg_orchestrator.resources.names import PARENT_TASK
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.store.runs import Runs
from dawg_orchestrator.store.testrun import RunRecord, cells_of, record_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MATRIX = {"python": ["3.11", "3.12"]}
ENDED = {"verdict": "Failed", "taskVerdicts": "PF"}


class Faulty(ApiserverDouble):
    """Fails to answer about revisions so many times."""

    failures = 0
    failure: Exception = Unavailable("down", 503)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JsonObject:
        """The object, if it is not a failure's turn."""
        if resource is CONTROLLER_REVISIONS and self.failures:
            self.failures -= 1
            raise self.failure
        return await super().get(resource, namespace, name)


@pytest.fixture
def apiserver() -> Faulty:
    return Faulty()


@pytest.fixture
def contents(apiserver: Faulty) -> Contents:
    return Contents(apiserver, time.monotonic)  # type: ignore[arg-type]


def entries(testrun: JsonObject) -> list[tuple[Any, ...]]:
    found = queue_entries([live_run(testrun)], {}, {"team"}, NOON)
    return [(one["task"], one["pool"], one["priority"], one["position"]) for one in found]


async def test_a_workflows_run_queues_and_is_recorded_as_if_it_listed_its_tasks(
    contents: Contents, apiserver: Faulty
) -> None:
    tasks = [a_task("unit", matrix=MATRIX, image="python", pool="warm"), a_task("show", needs=["unit"])]
    run = apiserver.workflow_run("run", *tasks, priority="high", status=ENDED | {"taskVerdicts": "PFS"})

    complete = await contents.complete(run)
    record = record_of(complete)

    waiting = {**complete, "status": {}}
    assert entries(waiting) == [
        ("show", "default", "high", None), ("unit[python=3.11]", "warm", "high", 1),
        ("unit[python=3.12]", "warm", "high", 2),
    ]  # fmt: skip
    assert [(task["key"], task["image"], task["verdict"]) for task in record.tasks] == [
        ("unit[python=3.11]", "python", "Passed"), ("unit[python=3.12]", "python", "Failed"), ("show", None, "Skipped")
    ]  # fmt: skip
    assert (record.run["workflow"], record.run["priority"], record.run["tasks_ran"]) == ("checks", "high", 2)
    assert record.run["spec"]["workflowRef"] == {"name": "checks"}


async def test_a_run_of_a_step_queues_as_urgently_as_the_step_said(contents: Contents, apiserver: Faulty) -> None:
    run = apiserver.workflow_run("run", a_task("unit"), priority="critical")
    run["metadata"]["annotations"] = {PARENT_TASK: "0"}

    assert [priority for _, _, priority, _ in entries(await contents.complete(run))] == ["medium"]


async def test_a_revision_is_read_once(contents: Contents, apiserver: Faulty) -> None:
    run = apiserver.workflow_run("run")
    for _ in range(3):
        await contents.complete({**run, "metadata": {**run["metadata"], "resourceVersion": "9"}})

    assert apiserver.asked == ["get controllerrevisions"]


async def test_a_run_that_lists_its_tasks_is_left_alone(contents: Contents, apiserver: Faulty) -> None:
    run = apiserver.testrun("run")

    assert await contents.complete(run) is run
    assert apiserver.asked == []


def not_frozen_yet(apiserver: Faulty) -> None:
    apiserver.objects["testruns", "team", "run"]["status"].pop("workflowRevision")


def revision_gone(apiserver: Faulty) -> None:
    del apiserver.objects["controllerrevisions", "team", "run-revision"]


def revision_of_another_run(apiserver: Faulty) -> None:
    apiserver.objects["controllerrevisions", "team", "run-revision"]["metadata"]["ownerReferences"][0]["uid"] = "x"


def no_right(apiserver: Faulty) -> None:
    apiserver.failures, apiserver.failure = 9, Forbidden("no", 403)


def nonsense(apiserver: Faulty) -> None:
    apiserver.objects["controllerrevisions", "team", "run-revision"]["data"] = {"spec": "nonsense"}


UNKNOWN = [not_frozen_yet, revision_gone, revision_of_another_run, no_right, nonsense]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=lambda unknown: unknown.__name__)
async def test_where_nobody_can_say_status_is_what_counts(
    unknown: Callable[[Faulty], None], contents: Contents, apiserver: Faulty
) -> None:
    shown = [
        {"name": "unit", "index": 2, "shard": 1, "cell": {"python": "3.12"}, "verdict": "Failed", "attempt": 1},
        {"name": "lint", "index": 1, "reason": "WaitingForAgent"},
    ]
    status = ENDED | {"taskVerdicts": "P.FSP", "tasks": shown}
    run = apiserver.workflow_run("run", status=status)
    unknown(apiserver)

    found = await contents.complete(run)
    record = record_of(found)

    assert lacks_tasks(found)
    assert [(task["index"], task["key"]) for task in record.tasks] == [(1, "lint"), (2, "unit[python=3.12] 2")]
    assert (record.run["tasks_total"], record.run["tasks_ran"], record.run["tasks_green"]) == (5, 3, 2)
    assert record.run["workflow"] == "checks"
    assert entries({**found, "status": {**found["status"], "verdict": None}}) == [("lint", "default", "medium", 1)]


class Remembers(Runs):
    """A history that takes everything."""

    def __init__(self) -> None:
        self.records: list[RunRecord] = []
        self.more = asyncio.Event()

    async def record(self, records: Any) -> None:
        """Keep them."""
        self.records += records
        self.more.set()


async def test_a_run_is_recorded_whole_once_the_apiserver_answers_again(
    contents: Contents, apiserver: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_GATHER_SECONDS", "_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(follow, name, 0)
    apiserver.failures = 3
    history = Remembers()
    follower = Follower(apiserver, history, (), Metrics(), contents)  # type: ignore[arg-type]
    follower._take(apiserver.workflow_run("run", a_task("a"), a_task("b"), status=ENDED), {})

    recording = asyncio.create_task(follower._record())
    await asyncio.wait_for(history.more.wait(), 5)
    recording.cancel()

    assert [task["key"] for task in history.records[0].tasks] == ["a", "b"]


async def test_a_live_run_is_followed_though_its_revision_cannot_be_read(contents: Contents, apiserver: Faulty) -> None:
    apiserver.failures = 1
    follower = Follower(apiserver, Remembers(), (), Metrics(), contents)  # type: ignore[arg-type]
    run = apiserver.workflow_run("run")

    assert lacks_tasks(await follower._as_far_as_known(run))
    assert not lacks_tasks(await follower._as_far_as_known(run))


def test_a_gated_run_of_a_workflow_consists_of_what_was_frozen_too() -> None:
    spec = TestRunSpec.model_validate({
        "workflowRef": {"name": "checks"}, "tasks": [a_task("unit")], "gate": {"repository": "shop/web"},
        "source": {"git": {"url": "https://git.example.org/shop/web.git", "revision": "a" * 40}},
    })  # fmt: skip

    assert [cell.key for cell in cells_of(spec)] == ["unit"]
