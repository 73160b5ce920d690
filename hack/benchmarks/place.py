"""Where benchmarks run: the release's namespace, pools of their own, and a connection that sees every change."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.clock import now_ms
from dawg_orchestrator.cluster.client import AGENTPOOLS, JOBS, TESTRUNS, Cluster, JsonObject, Resource
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import NotFound
from localcluster import certificates

NAMESPACE = certificates.RELEASE_NAMESPACE
LABEL = "dawg-bench"
_DELETES_AT_ONCE = 16


@dataclass
class Watched:
    """What a watch has seen of a kind: names by the time (ms) at which their end was seen."""

    ended: dict[str, float] = field(default_factory=dict)
    objects: dict[str, JsonObject] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until_ended(self, *names: str, within: float = 600) -> list[float]:
        """Wait for the ends of all these; their times."""
        async with asyncio.timeout(within), self.changed:
            for name in names:
                while name not in self.ended:
                    await self.changed.wait()
        return [self.ended[name] for name in names]

    async def until_passed(self, *names: str) -> list[float]:
        """The same; RuntimeError when a run did not pass, since to refuse one takes no time."""
        ends = await self.until_ended(*names)
        for name in names:
            status = self.objects[name]["status"]
            if status["verdict"] != "Passed":
                finished: JsonObject = next((one for one in status["conditions"] if one["type"] == "Finished"), {})
                raise RuntimeError(f"run {name} ended {status['verdict']}: {finished.get('message', '')}")
        return ends


@dataclass
class Place:
    """The cluster, and who watches it."""

    cluster: Cluster
    mark: str
    image: str
    runs: Watched
    jobs: Watched
    serial: int = 0

    def name(self, kind: str) -> str:
        """A name that nothing else has."""
        self.serial += 1
        return f"{kind}-{self.mark}-{self.serial}"

    async def create(self, resource: Resource, body: JsonObject, namespace: str = NAMESPACE) -> float:
        """Create an object; when (ms) the apiserver had acknowledged it."""
        await self.cluster.create(resource, namespace, body)
        return now_ms()

    async def pool(self, **spec: Any) -> str:
        """A pool with so many agents as it has at least, connected."""
        name = self.name("pool")
        body = {
            "apiVersion": "dawg.dev/v1alpha1", "kind": "AgentPool",
            "metadata": {"name": name, "labels": {LABEL: self.mark}},
            "spec": {"jobTemplate": {"image": self.image}, **spec},
        }  # fmt: skip
        await self.cluster.create(AGENTPOOLS, NAMESPACE, body)
        async with asyncio.timeout(180):
            while True:
                status = (await self.cluster.get(AGENTPOOLS, NAMESPACE, name)).get("status") or {}
                if (status.get("readyAgents") or 0) >= spec.get("minAgents", 1):
                    return name
                await asyncio.sleep(0.5)


def run_body(place: Place, pool: str, *tasks: JsonObject) -> JsonObject:
    """A TestRun of these tasks."""
    return {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun",
        "metadata": {"name": place.name("run"), "labels": {LABEL: place.mark}},
        "spec": {"pool": pool, "tasks": list(tasks)},
    }  # fmt: skip


def job_body(place: Place, command: list[str]) -> JsonObject:
    """A bare Job of this command, as anybody would write it."""
    container = {"name": "test", "image": place.image, "command": command}
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": place.name("job"), "labels": {LABEL: place.mark}},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": {LABEL: place.mark}},
                         "spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }  # fmt: skip


@asynccontextmanager
async def opened(image: str) -> AsyncIterator[Place]:
    """A place, and afterwards nothing of it left in the cluster."""
    async with Cluster(find_credentials(), user_agent="dawg-bench") as cluster:
        place = Place(cluster, secrets.token_hex(3), image, Watched(), Watched())
        watching = [
            asyncio.create_task(watch(place, TESTRUNS, place.runs)),
            asyncio.create_task(watch(place, JOBS, place.jobs)),
        ]
        try:
            yield place
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await tidied(place, NAMESPACE, TESTRUNS, JOBS, AGENTPOOLS)


async def watch(place: Place, resource: Resource, watched: Watched, namespace: str = NAMESPACE) -> None:
    """For ever: see the ends of this benchmark's objects."""
    selector = {"labelSelector": f"{LABEL}={place.mark}"}
    _, version = await place.cluster.list(resource, namespace, selector)
    while True:
        async for kind, thing in place.cluster.watch(resource, namespace, version, selector):
            seen = now_ms()
            version = thing["metadata"].get("resourceVersion", version)
            name = thing["metadata"].get("name", "")
            if kind == "BOOKMARK" or name in watched.ended or not _has_ended(resource, thing):
                continue
            watched.ended[name], watched.objects[name] = seen, thing
            async with watched.changed:
                watched.changed.notify_all()


def _has_ended(resource: Resource, thing: JsonObject) -> bool:
    status = thing.get("status") or {}
    if resource is TESTRUNS:
        return bool(status.get("verdict"))
    conditions = status.get("conditions") or ()
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


async def tidied(place: Place, namespace: str, *resources: Resource) -> None:
    """Delete all that this benchmark has created, kind by kind."""
    at_once = asyncio.Semaphore(_DELETES_AT_ONCE)

    async def delete(resource: Resource, name: str) -> None:
        async with at_once:
            with suppress(NotFound):
                await place.cluster.delete(resource, namespace, name, propagation="Background")

    for resource in resources:
        items, _ = await place.cluster.list(
            resource, namespace, {"labelSelector": f"{LABEL}={place.mark}"}, metadata_only=True
        )
        await asyncio.gather(*(delete(resource, item["metadata"]["name"]) for item in items))
