"""A run by its name: the TestRun, or what history keeps of it when the TestRun is deleted."""

from __future__ import annotations

from dawg_orchestrator.client.connection import Cluster, JsonObject
from dawg_orchestrator.client.door import Door, run_path
from dawg_orchestrator.client.exits import DoorClosed
from dawg_orchestrator.client.testruns import Run, get_run
from dawg_orchestrator.errors import ClusterError, NotFound


def find_run(cluster: Cluster, door: Door, namespace: str, name: str) -> tuple[Run, bool]:
    """The run and whether its TestRun exists; NotFound if neither the cluster nor history can show it."""
    try:
        return get_run(cluster, namespace, name), True
    except NotFound as missing:
        try:
            record = door.get(run_path(namespace, name))
        except (DoorClosed, ClusterError):
            raise missing from None
    return _recorded(record, namespace, name), False


def with_tasks(door: Door, run: Run) -> Run:
    """The run with what it consists of in its spec; DoorClosed or ClusterError if the api must say and does not."""
    if run.lists_tasks:
        return run
    record = door.get(run_path(run.namespace, run.name), {"uid": run.uid})
    return Run({**run.raw, "spec": record.get("spec") or run.spec}, run.status)


def _recorded(record: JsonObject, namespace: str, name: str) -> Run:
    metadata = {"name": name, "namespace": namespace, "uid": record.get("uid")}
    metadata["creationTimestamp"] = record.get("created")
    return Run.of({"metadata": metadata, "spec": record.get("spec"), "status": record.get("status")})
