"""A Job that was created though its run was over is ended; those that people may want to look at are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from builders import NAMESPACE
from dawg_orchestrator.cluster.client import JOBS, PODS, TESTRUNS, Cluster, JsonObject, JsonObjects, Resource
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.resync import StrayJobs
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources import names

METADATA: JsonObject = {
    "name": "run-1-abc", "uid": "j-1", "namespace": NAMESPACE,
    "labels": {names.RUN: "r-1", names.INDEX: "0", names.ATTEMPT: "1"}, "annotations": {names.RUN_NAME: "run-1"},
}  # fmt: skip


class Objects(Cluster):
    """A cluster of one Job, its pod and its run."""

    def __init__(self, job: JsonObject, containers: list[JsonObject], run: JsonObject | None) -> None:
        self.deleted: list[str] = []
        self._job, self._run = job, run
        self._pods: JsonObjects = [{"status": {"containerStatuses": containers}}]

    async def get(self, resource: Resource, namespace: str, name: str, **_: Any) -> JsonObject:
        found = {JOBS: self._job, TESTRUNS: self._run}[resource]
        if found is None:
            raise NotFound(name, 404)
        return found

    async def list(self, resource: Resource, *_: Any, **__: Any) -> tuple[JsonObjects, str]:
        assert resource is PODS
        return self._pods, "1"

    async def delete(self, resource: Resource, namespace: str, name: str, **_: Any) -> None:
        self.deleted.append(name)


RUNS_ON = [{"name": "test", "state": {"running": {}}}]
OVER = {"metadata": {"uid": "r-1"}, "status": {"verdict": "Cancelled"}}


async def deleted_after_two_looks(job: JsonObject, containers: list[JsonObject], run: JsonObject | None) -> list[str]:
    cluster = Objects(job, containers, run)
    strays = StrayJobs(cluster, NAMESPACE, Desk(1, lambda *_: None, datetime(2026, 1, 5, tzinfo=UTC)))
    await strays.end({"j-1": METADATA})
    assert cluster.deleted == []  # its end may only not be on its status yet
    await strays.end({"j-1": METADATA})
    return cluster.deleted


async def test_a_job_that_runs_on_after_its_run_was_over_is_ended() -> None:
    assert await deleted_after_two_looks({"status": {"active": 1}}, RUNS_ON, OVER) == ["run-1-abc"]


@pytest.mark.parametrize(
    ("job", "containers", "run"),
    [
        ({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, RUNS_ON, OVER),
        ({"status": {}}, [{"name": "test", "state": {"terminated": {"exitCode": 1}}}], OVER),  # held for debugging
        ({"status": {}}, RUNS_ON, {"metadata": {"uid": "r-1"}, "status": {}}),  # it is under way after all
        ({"status": {}}, RUNS_ON, {"metadata": {"uid": "r-2"}, "status": {"verdict": "Passed"}}),  # another run's name
        ({"status": {}}, RUNS_ON, None),  # goes by ownership
    ],
)
async def test_every_other_job_is_left_alone(
    job: JsonObject, containers: list[JsonObject], run: JsonObject | None
) -> None:
    assert await deleted_after_two_looks(job, containers, run) == []
