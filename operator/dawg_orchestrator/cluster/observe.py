"""The cluster as it is: everything the leader needs to know, listed in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from dawg_orchestrator.cluster.client import (
    AGENTPOOLS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    SCHEDULES,
    TESTRUNS,
    WORKFLOWS,
    Cluster,
    JsonObject,
    JsonObjects,
    Resource,
)
from dawg_orchestrator.resources import names

UNFINISHED = {"fieldSelector": "status.verdict="}  # the CRD makes the verdict selectable; absent until finished
FINISHED = {"fieldSelector": "status.verdict!="}
BLOCKED = {"fieldSelector": "status.verdict!=,status.mergeBlocked=true"}  # finished, and the merge is blocked
AGENTS_ONLY = {"labelSelector": f"{names.ROLE}=agent"}
TASKS_ONLY = {"labelSelector": f"{names.ROLE}=task"}

# In this order: a run is restored from its Jobs too, so they come first.
WATCHED: tuple[tuple[Resource, dict[str, str]], ...] = (
    (DEPLOYMENTS, {}),  # agents', and all others for triggers
    (PODS, AGENTS_ONLY),
    (AGENTPOOLS, {}),
    (SCHEDULES, {}),
    (WORKFLOWS, {}),
    (JOBS, TASKS_ONLY),
    (TESTRUNS, UNFINISHED),
)


async def everything(
    cluster: Cluster, namespaces: Iterable[str]
) -> AsyncIterator[tuple[Resource, str, str, JsonObjects]]:
    """Every object that decides: kind, namespace, the list's resourceVersion, and a page of objects."""
    for resource, selectors in WATCHED:
        for namespace in namespaces:
            async for page, version in cluster.pages(resource, namespace, selectors):
                yield resource, namespace, version, page


async def finished_runs(cluster: Cluster, namespaces: Iterable[str]) -> AsyncIterator[JsonObject]:
    """All TestRuns that have their verdict, in pages."""
    for namespace in namespaces:
        async for page, _ in cluster.pages(TESTRUNS, namespace, FINISHED):
            for item in page:
                yield item


async def live_metadata(
    cluster: Cluster, resource: Resource, namespace: str, selectors: dict[str, str]
) -> dict[str, JsonObject]:
    """The metadata by uid of what exists now: cheap enough for every few minutes."""
    items, _ = await cluster.list(resource, namespace, selectors, metadata_only=True)
    return {item["metadata"]["uid"]: item["metadata"] for item in items}
