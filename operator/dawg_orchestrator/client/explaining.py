"""`dawg why`: gather what may explain a run, then say it. What cannot be read is named, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dawg_orchestrator.client.connection import Cluster, JsonObject, resource_path
from dawg_orchestrator.client.door import Door, opened, release_namespaces
from dawg_orchestrator.client.exits import DoorClosed
from dawg_orchestrator.client.printing import print_json, print_view
from dawg_orchestrator.client.recorded import find_run, with_tasks
from dawg_orchestrator.client.showing import entries_of
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.view_why import why_view
from dawg_orchestrator.client.why import Facts, Release, explain
from dawg_orchestrator.errors import ClusterError, NotFound

T = TypeVar("T")
_CONTROLLERS = "app.kubernetes.io/name=dawg,app.kubernetes.io/component=controller"


def explain_run(target: Target, name: str) -> None:
    """Print the explanations of a run."""
    with opened(target) as (cluster, door):
        run, _ = find_run(cluster, door, cluster.namespace, name)
        explanations = explain(gather(cluster, door, run, release_namespaces(cluster, target)))
    if target.wants_json:
        fields = ("reason", "message", "remedy")
        print_json([{field: str(getattr(one, field)) for field in fields} for one in explanations])
    else:
        print_view(why_view(explanations))


def gather(cluster: Cluster, door: Door, run: Run, candidates: Sequence[str]) -> Facts:
    """Everything that may explain the run and that the person may read."""
    unread: list[str] = []

    def read(what: str, reading: Callable[[], T]) -> T | None:
        try:
            return reading()
        except (ClusterError, DoorClosed) as error:
            unread.append(f"{what} could not be read: {error}")
            return None

    def queue() -> list[JsonObject]:
        return entries_of(door.get("/v1/queue", {"namespace": run.namespace}))

    finished = run.status.verdict is not None
    waiting = not finished and run.seen
    namespace = run.namespace
    return Facts(
        run=read("what the Workflow made of the run", lambda: with_tasks(door, run)) or run if waiting else run,
        pools=None if finished else read("pools", lambda: _pools(cluster, namespace)),
        queue=read("the live queue", queue) if waiting else None,
        events=read("events", lambda: _warnings(cluster, run)) or (),
        releases=None if run.seen else read("the controller", lambda: _releases(cluster, candidates)),
        unread=unread,
    )


def _pools(cluster: Cluster, namespace: str) -> Mapping[str, JsonObject]:
    return {pool["metadata"]["name"]: pool for pool in cluster.items(resource_path("agentpools", namespace))}


def _warnings(cluster: Cluster, run: Run) -> list[JsonObject]:
    """Warnings about the run, its Jobs and their pods (a Job's pod is named after it), newest first."""
    jobs = {task.job for task in run.status.tasks if task.job}

    def concerns(event: JsonObject) -> bool:
        involved = event.get("involvedObject") or {}
        name = str(involved.get("name", ""))
        return involved.get("uid") == run.uid or name in jobs or name.rsplit("-", 1)[0] in jobs

    query = {"fieldSelector": "type=Warning"}
    found = filter(concerns, cluster.items(resource_path("events", run.namespace, api="api/v1"), query))
    return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime")), reverse=True)


def _releases(cluster: Cluster, candidates: Sequence[str]) -> list[Release] | None:
    """Controllers in the namespaces where a release may be; Forbidden only if none of them may be read."""
    found: list[Release] = []
    refused: ClusterError | None = None
    for namespace in candidates:
        path = resource_path("deployments", namespace, api="apis/apps/v1")
        try:
            found += [_release_of(one) for one in cluster.items(path, {"labelSelector": _CONTROLLERS})]
        except NotFound:
            continue
        except ClusterError as error:
            refused = error
    if refused is not None and not found:
        raise refused
    return found


def _release_of(deployment: JsonObject) -> Release:
    metadata, spec = deployment["metadata"], deployment["spec"]["template"]["spec"]
    labels = metadata.get("labels") or {}
    return Release(
        name=str(labels.get("app.kubernetes.io/instance") or "dawg"),
        namespace=str(metadata["namespace"]),
        ready=bool((deployment.get("status") or {}).get("readyReplicas")),
        watches=_watched(spec.get("containers") or [], str(metadata["namespace"])),
    )


def _watched(containers: Sequence[Mapping[str, Any]], own: str) -> tuple[str, ...] | None:
    """The controller's DAWG_NAMESPACES; empty means its own namespace."""
    for container in containers:
        for variable in container.get("env") or []:
            if variable.get("name") == "DAWG_NAMESPACES" and "value" in variable:
                names = tuple(name.strip() for name in str(variable["value"]).split(",") if name.strip())
                return names or (own,)
    return None
