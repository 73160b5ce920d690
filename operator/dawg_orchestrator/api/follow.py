"""The api's own view of TestRuns and AgentPools, by list and watch; a run that ends is written to history.

    list (finds what was missed) ─► watch ─► … until the watch ends, breaks or expires ─► list

The server ends a watch every few minutes, so the list is also the resync that finds what events lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from dawg_orchestrator.api.contents import Contents
from dawg_orchestrator.api.metrics import Metrics
from dawg_orchestrator.api.queue import LiveRun, live_run
from dawg_orchestrator.cluster.client import AGENTPOOLS, TESTRUNS, Cluster, Resource
from dawg_orchestrator.errors import ClusterError, StoreError
from dawg_orchestrator.store.runs import Runs
from dawg_orchestrator.store.testrun import record_of

_log = structlog.get_logger()
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_RECORDED_AT_ONCE = 200
_BOIL_DOWN_SECONDS = 0.5  # after which a run that has not ended is boiled down for questions about the queue
_GATHER_SECONDS = 0.3  # in which more runs may join those that are written to history together


@dataclass
class Seen:
    """What exists, as far as events and lists have told."""

    boiled: dict[str, LiveRun] = field(default_factory=dict)  # by uid
    fresh: dict[str, dict[str, Any]] = field(default_factory=dict)  # live, too: many end before anybody asks for them
    finished: dict[str, tuple[str, str]] = field(default_factory=dict)  # uid → (namespace, resourceVersion)
    pools: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # by (namespace, name)
    unrecorded: dict[str, dict[str, Any]] = field(default_factory=dict)  # finished TestRuns on their way to history

    @property
    def live(self) -> dict[str, LiveRun]:
        """The runs without a verdict, by uid."""
        while self.boil_down():
            pass
        return self.boiled

    @property
    def existing(self) -> set[str]:
        """The uids of all TestRuns that exist, or have yet to be written to history."""
        return {*self.boiled, *self.fresh, *self.finished, *self.unrecorded}

    def boil_down(self) -> bool:
        """Do so with one fresh run; False when there is none."""
        if not self.fresh:
            return False
        uid, testrun = self.fresh.popitem()
        self.boiled[uid] = live_run(testrun)
        return True

    def take_run(self, testrun: dict[str, Any], recorded: Mapping[str, str | None]) -> None:
        """Take a run as it is now; ``recorded`` tells at which resourceVersion runs are in history already."""
        metadata = testrun["metadata"]
        uid, version = metadata["uid"], metadata.get("resourceVersion", "")
        if not (testrun.get("status") or {}).get("verdict"):
            self.fresh[uid] = testrun
            return
        self._end(uid)
        known = self.finished.get(uid, ("", recorded.get(uid)))[1]
        self.finished[uid] = (metadata["namespace"], version)
        if known != version:
            self.unrecorded[uid] = testrun

    def drop_run(self, uid: str) -> None:
        """A run is deleted; if it ended, it is still written to history."""
        self._end(uid)
        self.finished.pop(uid, None)

    def _end(self, uid: str) -> None:
        self.boiled.pop(uid, None)
        self.fresh.pop(uid, None)

    def drop_runs_but(self, namespace: str, listed: Collection[str]) -> None:
        """A whole list of a namespace's runs has come: what it lacks is gone."""
        homes = [(uid, run.namespace) for uid, run in self.live.items()]
        homes += [(uid, home) for uid, (home, _) in self.finished.items()]
        for uid, home in homes:
            if home == namespace and uid not in listed:
                self.drop_run(uid)

    def replace_pools(self, namespace: str, pools: list[dict[str, Any]]) -> None:
        """A whole list of a namespace's pools has come."""
        kept = {key: pool for key, pool in self.pools.items() if key[0] != namespace}
        self.pools = kept | {(namespace, pool["metadata"]["name"]): pool for pool in pools}


class Follower:
    """Keeps what is seen up to date, and writes finished runs to history."""

    def __init__(
        self, cluster: Cluster, runs: Runs, namespaces: Collection[str], metrics: Metrics, contents: Contents
    ) -> None:
        self.seen = Seen()
        self._cluster = cluster
        self._runs = runs
        self._namespaces = tuple(namespaces)
        self._metrics = metrics
        self._contents = contents
        self._more = asyncio.Event()
        self._listed: set[tuple[str, str]] = set()

    @property
    def synced(self) -> bool:
        """Every namespace has been listed once, so what is seen is all there is."""
        return len(self._listed) == 2 * len(self._namespaces)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record())
            tasks.create_task(self._boil_down())
            for namespace in self._namespaces:
                tasks.create_task(self._follow(TESTRUNS, namespace))
                tasks.create_task(self._follow(AGENTPOOLS, namespace))

    async def _follow(self, resource: Resource, namespace: str) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                version = await self._list(resource, namespace)
                self._listed.add((resource.plural, namespace))
                pause = _FIRST_PAUSE
                async for kind, thing in self._cluster.watch(resource, namespace, version):
                    self._change(resource, kind, await self._as_far_as_known(thing))
            except (ClusterError, StoreError) as error:
                _log.warning("watch interrupted", resource=resource.plural, namespace=namespace, error=str(error)[:300])
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _list(self, resource: Resource, namespace: str) -> str:
        items, version = await self._cluster.list(resource, namespace)
        if resource is AGENTPOOLS:
            self.seen.replace_pools(namespace, items)
            return version
        self.seen.drop_runs_but(namespace, {item["metadata"]["uid"] for item in items})
        ended = [item["metadata"]["uid"] for item in items if (item.get("status") or {}).get("verdict")]
        recorded = await self._runs.recorded_versions(ended)
        for item in items:
            self._take(await self._as_far_as_known(item), recorded)
            self.seen.boil_down()
            await asyncio.sleep(0)  # a long list does not hold up requests
        return version

    def _change(self, resource: Resource, kind: str, thing: dict[str, Any]) -> None:
        if kind == "BOOKMARK":
            return
        metadata = thing["metadata"]
        if resource is AGENTPOOLS:
            key = (metadata["namespace"], metadata["name"])
            if kind == "DELETED":
                self.seen.pools.pop(key, None)
            else:
                self.seen.pools[key] = thing
            return
        self._take(thing, {})
        if kind == "DELETED":
            self.seen.drop_run(metadata["uid"])

    async def _as_far_as_known(self, thing: dict[str, Any]) -> dict[str, Any]:
        """A run without a verdict, complete if that can be had now: its queue is worth no wait."""
        if (thing.get("status") or {}).get("verdict"):
            return thing  # completed when it is recorded, if it is not yet
        try:
            return await self._contents.complete(thing)
        except ClusterError as error:
            _log.warning("a run's tasks are not known", run=thing["metadata"]["name"], error=str(error)[:300])
            return thing

    def _take(self, testrun: dict[str, Any], recorded: Mapping[str, str | None]) -> None:
        self.seen.take_run(testrun, recorded)
        self._metrics.unrecorded.set(len(self.seen.unrecorded))
        if self.seen.unrecorded:
            self._more.set()

    async def _boil_down(self) -> None:
        while True:
            await asyncio.sleep(_BOIL_DOWN_SECONDS)
            for _ in iter(self.seen.boil_down, False):
                await asyncio.sleep(0)  # many of them do not hold up requests

    async def _record(self) -> None:
        """Write what has ended to history, in batches; what cannot be written now is tried again.

        A batch that fails goes to the end, and the next is half as large: one run that history never takes does not
        keep the others out.
        """
        pause, most = _FIRST_PAUSE, _RECORDED_AT_ONCE
        while True:
            await self._more.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            batch = list(self.seen.unrecorded.values())[:most]
            try:
                await self._runs.record([record_of(await self._contents.complete(testrun)) for testrun in batch])
            except (StoreError, ClusterError) as error:
                _log.error("runs are not recorded", runs=_some_names(batch), error=str(error)[:300])
            except Exception:  # noqa: BLE001 - whatever is wrong with one run must not end the api
                _log.exception("runs cannot be recorded", runs=_some_names(batch))
            else:
                pause, most = _FIRST_PAUSE, min(_RECORDED_AT_ONCE, 2 * most)
                self._recorded(batch)
                continue
            self._put_last(batch)
            most = max(1, len(batch) // 2)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _put_last(self, batch: list[dict[str, Any]]) -> None:
        for testrun in batch:
            uid = testrun["metadata"]["uid"]
            if uid in self.seen.unrecorded:
                self.seen.unrecorded[uid] = self.seen.unrecorded.pop(uid)

    def _recorded(self, batch: list[dict[str, Any]]) -> None:
        for testrun in batch:
            uid = testrun["metadata"]["uid"]
            if self.seen.unrecorded.get(uid) is testrun:  # it may have changed meanwhile
                del self.seen.unrecorded[uid]
        self._metrics.recorded.inc(len(batch))
        self._metrics.unrecorded.set(len(self.seen.unrecorded))
        if not self.seen.unrecorded:
            self._more.clear()


def _some_names(batch: list[dict[str, Any]]) -> list[str]:
    return [testrun["metadata"]["name"] for testrun in batch[:3]]
