"""Overrides of runs that have their verdict: found by a watch of those whose merge is blocked, ruled on one by one.

A run that goes on carries its override itself (records.py); `planning.overriding` decides about both.

    watch of blocked runs (metadata) ─► Overrides ─► Overruler: read, rule, write ─► gates, Event
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, WatchExpired
from dawg_orchestrator.cluster.observe import BLOCKED, FINISHED
from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.errors import ClusterError, Conflict, Invalid, NotFound
from dawg_orchestrator.planning.overriding import CONDITION, overruled_status, read_override
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.conditions import read_conditions, transitions
from dawg_orchestrator.resources.reasons import Reason

if TYPE_CHECKING:
    from dawg_orchestrator.controller.desk import Desk

log = structlog.get_logger()

JsonObject = dict[str, Any]
_TRIES = 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before the watch is opened anew


class Overrides:
    """Finished runs with an override that has not been ruled on yet. No I/O."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._names: dict[str, dict[str, str]] = {}  # by namespace: uid → name

    def see(self, obj: JsonObject) -> None:
        """A finished run; its metadata is enough."""
        metadata = obj["metadata"]
        if names.OVERRIDE in (metadata.get("annotations") or {}):
            self._names.setdefault(metadata["namespace"], {})[metadata["uid"]] = metadata["name"]
            self._wake(metadata["namespace"])

    def due(self, namespace: str) -> dict[str, str]:
        """The names of those to rule on, by uid."""
        return dict(self._names.get(namespace, {}))

    def ruled(self, namespace: str, uid: str) -> None:
        """Its status tells what became of it."""
        self._names.get(namespace, {}).pop(uid, None)


class Overruler:
    """Writes on finished runs what became of their overrides."""

    def __init__(self, cluster: Cluster, desk: Desk, clock: Callable[[], datetime]) -> None:
        self._cluster, self._desk, self._clock = cluster, desk, clock

    async def look(self, namespace: str) -> None:
        """Rule on all that wait; what could not be written is tried again, after the others."""
        failed: ClusterError | None = None
        for uid, name in self._desk.overrides.due(namespace).items():
            try:
                await self._rule(namespace, uid, name)
                self._desk.overrides.ruled(namespace, uid)
            except ClusterError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _rule(self, namespace: str, uid: str, name: str) -> None:
        for _ in range(_TRIES):
            try:
                found = await self._cluster.get(TESTRUNS, namespace, name)
                override, before = read_override(found), found.get("status") or {}
                if found["metadata"]["uid"] != uid or override is None or not before.get("verdict"):
                    return
                now = self._clock()
                self._desk.gates.see_finished(found, now)
                status = overruled_status(before, override, self._desk.gates.newer_than(uid), now)
                if status is None:
                    return
                status["term"] = self._desk.term
                written = await carry_out.write_status(
                    self._cluster, TESTRUNS, namespace, name, version_of(found), status
                )
            except NotFound:
                return
            except Conflict:
                continue
            self._desk.gates.see_finished({**found, "metadata": written, "status": status}, now)
            log.info("override ruled on", namespace=namespace, run=name, blocked=status.get("mergeBlocked"))
            await announce_override(self._cluster, (namespace, name, uid), before, status, now)
            return
        raise Conflict(f"{namespace}/{name} is written by others again and again", 409)


async def announce_override(
    cluster: Cluster, about: tuple[str, str, str], before: JsonObject, after: JsonObject, now: datetime
) -> None:
    """A Kubernetes Event when an override has come to count, or is found not to."""
    known, there = (read_conditions(status.get("conditions") or (), (CONDITION,)) for status in (before, after))
    for condition in transitions(known, there):
        reason = Reason.of(condition.reason)
        if reason in (Reason.OVERRIDDEN, Reason.OVERRIDE_IGNORED):
            warning = reason is Reason.OVERRIDE_IGNORED
            await carry_out.announce(cluster, TESTRUNS, about, reason, condition.message, warning=warning, now=now)


async def watch_blocked(cluster: Cluster, namespaces: Iterable[str], overrides: Overrides) -> None:
    """For ever: find overrides of finished runs whose merge is blocked."""
    async with asyncio.TaskGroup() as group:
        for namespace in namespaces:
            group.create_task(_watch_namespace(cluster, namespace, overrides))


async def _watch_namespace(cluster: Cluster, namespace: str, overrides: Overrides) -> None:
    version, pause, which = "", _SHORTEST_PAUSE, BLOCKED
    while True:
        try:
            if not version:
                listed = ""
                async for page, listed in cluster.pages(TESTRUNS, namespace, which, metadata_only=True):  # noqa: B007
                    for obj in page:
                        overrides.see(obj)
                version = listed
            async for kind, obj in cluster.watch(TESTRUNS, namespace, version, which, metadata_only=True):
                if kind not in ("DELETED", "BOOKMARK"):
                    overrides.see(obj)
                version, pause = obj["metadata"]["resourceVersion"], _SHORTEST_PAUSE
        except WatchExpired:
            version = ""
        except ClusterError as error:
            log.warning("the watch of blocked testruns broke", namespace=namespace, error=str(error)[:300])
            if isinstance(error, Invalid):  # definitions of an older release, by which no one can ask for these alone
                version, which = "", FINISHED
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, 2 * pause)
