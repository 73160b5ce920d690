"""What events lost: now and then the desk is compared with a list of what exists, by metadata alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

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
    Resource,
)
from dawg_orchestrator.cluster.observe import WATCHED, everything, live_metadata
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.errors import ClusterError, NotFound
from dawg_orchestrator.resources import names

log = structlog.get_logger()

FIRST_SECONDS = 10.0  # soon after the watches began, for what happened between our own list and theirs
EVERY_SECONDS = 120.0


def tell(desk: Desk, resource: Resource, obj: JsonObject) -> None:
    """Put a listed object on the desk. One that the desk breaks on must not end the leader, and the next one too."""
    see = {
        TESTRUNS: desk.see_run, AGENTPOOLS: desk.see_pool, JOBS: desk.see_job,
        PODS: desk.see_pod, DEPLOYMENTS: desk.see_deployment, SCHEDULES: desk.timetable.see,
        WORKFLOWS: desk.library.see,
    }  # fmt: skip
    try:
        see[resource](obj)
    except Exception:
        metadata = obj["metadata"]
        log.exception(
            "an object broke", kind=resource.plural, namespace=metadata.get("namespace"), name=metadata.get("name")
        )


async def load(cluster: Cluster, namespaces: Iterable[str], desk: Desk) -> int:
    """Everything at once, before this leader serves; tried until the API has answered whole.

    Returns the latest term that any status names.
    """
    latest = 0
    while True:
        try:
            async for resource, namespace, version, page in everything(cluster, namespaces):
                for obj in page:
                    tell(desk, resource, obj)
                    latest = max(latest, (obj.get("status") or {}).get("term") or 0)
                if resource is TESTRUNS:
                    desk.runs_listed_at[namespace] = version
            return latest
        except ClusterError as error:
            log.warning("the cluster could not be listed yet", error=str(error))
            await asyncio.sleep(1)


async def keep_in_step(
    cluster: Cluster, namespaces: tuple[str, ...], desk: Desk, forget_run: Callable[[str], Awaitable[None]]
) -> None:
    """For ever: find what exists and is not on the desk, and what is on the desk and no longer exists."""
    wait = FIRST_SECONDS
    strays = {namespace: StrayJobs(cluster, namespace, desk) for namespace in namespaces}
    while True:
        await asyncio.sleep(wait)
        wait = EVERY_SECONDS
        for namespace in namespaces:
            try:
                await _compare(cluster, namespace, desk, forget_run, strays[namespace])
            except ClusterError as error:
                log.warning("resync failed; it is tried again later", namespace=namespace, error=str(error))


class StrayJobs:
    """Jobs that run though their run is over: a creation that the network delivered late, or twice.

    Jobs whose test has ended are kept for people, some of them with their pod. One whose test has not is ended when it
    is found so for the second time: the verdict of a run is taken before Kubernetes says that its Job is complete.
    """

    def __init__(self, cluster: Cluster, namespace: str, desk: Desk) -> None:
        self._cluster, self._namespace, self._desk = cluster, namespace, desk
        self._suspects: set[str] = set()
        self._ended: set[str] = set()

    async def end(self, live: Mapping[str, JsonObject]) -> None:
        """Look at the Jobs that exist, by uid."""
        before, self._suspects = self._suspects, set()
        self._ended &= live.keys()
        for uid, metadata in live.items():
            if uid in self._ended or _matters(self._desk, JOBS, metadata) or "deletionTimestamp" in metadata:
                continue
            if await self._has_ended(metadata["name"]):
                self._ended.add(uid)
            elif uid not in before:
                self._suspects.add(uid)
            elif await self._is_over(metadata):
                log.warning("a Job ran on after its run was over", namespace=self._namespace, name=metadata["name"])
                await self._cluster.delete(JOBS, self._namespace, metadata["name"], uid=uid, propagation="Foreground")

    async def _has_ended(self, job: str) -> bool:
        try:
            status = (await self._cluster.get(JOBS, self._namespace, job)).get("status") or {}
        except NotFound:
            return True
        if any(condition.get("status") == "True" for condition in status.get("conditions") or ()):
            return True
        pods, _ = await self._cluster.list(
            PODS, self._namespace, {"labelSelector": f"batch.kubernetes.io/job-name={job}"}
        )
        containers = [one for pod in pods for one in (pod.get("status") or {}).get("containerStatuses") or ()]
        return any(one["name"] == "test" and "terminated" in (one.get("state") or {}) for one in containers)

    async def _is_over(self, job: JsonObject) -> bool:
        """Whether the Job's run has its verdict, by the cluster's own word; of one that is gone Kubernetes ends it."""
        run = (job.get("annotations") or {}).get(names.RUN_NAME)
        if run is None:
            return False
        try:
            found = await self._cluster.get(TESTRUNS, self._namespace, run)
        except NotFound:
            return False
        same = found["metadata"]["uid"] == (job.get("labels") or {}).get(names.RUN)
        return same and bool((found.get("status") or {}).get("verdict"))


async def _compare(
    cluster: Cluster, namespace: str, desk: Desk, forget_run: Callable[[str], Awaitable[None]], strays: StrayJobs
) -> None:
    await _compare_whole(cluster, namespace, desk)
    for resource in (PODS, JOBS, TESTRUNS):
        known_before = _known(desk, resource, namespace)
        live = await live_metadata(cluster, resource, namespace, dict(WATCHED)[resource])
        known = known_before.keys() | _known(desk, resource, namespace).keys()
        for uid, metadata in live.items():
            if uid not in known and _matters(desk, resource, metadata):
                await _fetch(cluster, resource, namespace, metadata["name"], desk)
        for uid in known_before.keys() - live.keys():
            await _verify_gone(cluster, resource, namespace, uid, known_before[uid], desk, forget_run)
        if resource is JOBS:
            await strays.end(live)


async def _compare_whole(cluster: Cluster, namespace: str, desk: Desk) -> None:
    """Of what there are few: listed whole. What the list lacks is asked for before it is dropped."""
    for resource, known, drop in (
        (AGENTPOOLS, desk.pool_names, desk.drop_pool),
        (DEPLOYMENTS, desk.deployment_names, desk.drop_deployment_named),
        (SCHEDULES, desk.timetable.names_in, desk.timetable.drop),
        (WORKFLOWS, desk.library.names_in, desk.library.drop),
    ):
        known_before = known(namespace)
        items, _ = await cluster.list(resource, namespace, dict(WATCHED)[resource])
        for item in items:
            tell(desk, resource, item)
        for name in known_before - {item["metadata"]["name"] for item in items}:
            try:
                tell(desk, resource, await cluster.get(resource, namespace, name))
            except NotFound:
                log.info("an event was lost", kind=resource.plural, namespace=namespace, name=name)
                drop(namespace, name)


def _known(desk: Desk, resource: Resource, namespace: str) -> dict[str, str]:
    if resource is TESTRUNS:
        return {run.uid: run.name for run in desk.runs.values() if run.namespace == namespace}
    if resource is PODS:
        return {pod.uid: pod.pod for pod in desk.agent_pods.values() if pod.namespace == namespace}
    return {job.uid: job.name for run in desk.runs.values() if run.namespace == namespace for job in run.jobs.values()}


def _matters(desk: Desk, resource: Resource, metadata: JsonObject) -> bool:
    """Jobs of finished runs are kept for people and are none of ours any more."""
    return resource is not JOBS or (metadata.get("labels") or {}).get(names.RUN) in desk.runs


async def _fetch(cluster: Cluster, resource: Resource, namespace: str, name: str, desk: Desk) -> None:
    try:
        tell(desk, resource, await cluster.get(resource, namespace, name))
    except NotFound:
        return


async def _verify_gone(
    cluster: Cluster,
    resource: Resource,
    namespace: str,
    uid: str,
    name: str,
    desk: Desk,
    forget_run: Callable[[str], Awaitable[None]],
) -> None:
    """A list can be older than what we know: ask for the object itself before it is dropped."""
    try:
        found = await cluster.get(resource, namespace, name)
    except NotFound:
        found = None
    if found is not None and found["metadata"]["uid"] == uid:
        tell(desk, resource, found)
        return
    log.info("an event was lost", kind=resource.plural, namespace=namespace, name=name)
    if resource is TESTRUNS:
        await forget_run(uid)
    elif resource is PODS:
        desk.drop_pod({"metadata": {"uid": uid}})
    else:
        desk.drop_job_of(uid)
