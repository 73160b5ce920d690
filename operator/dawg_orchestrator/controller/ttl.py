"""Finished runs go when their ttlAfterFinished is over, but never before history has them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, JsonObject
from dawg_orchestrator.cluster.observe import finished_runs
from dawg_orchestrator.controller.history import History
from dawg_orchestrator.controller.records import Run, is_tracked
from dawg_orchestrator.errors import ClusterError, NotFound
from dawg_orchestrator.resources.model import parse_duration, parse_time

log = structlog.get_logger()

_LOOK_SECONDS = 5.0
_RELIST = timedelta(minutes=10)  # finds runs whose ttlAfterFinished was changed after their end
_AGAIN = timedelta(seconds=30)  # while history does not have a run
_AT_ONCE = 1000
_DEFAULT = timedelta(hours=24)

_Due = tuple[datetime, str, str, str]  # when, namespace, name, uid


class TimeToLive:
    """A heap of due times; the object itself is asked before it is deleted."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: tuple[str, ...],
        history: History,
        clock: Callable[[], datetime],
        seen: Callable[[JsonObject, datetime], None],
    ) -> None:
        self._cluster, self._namespaces, self._history, self._clock = cluster, namespaces, history, clock
        self._seen = seen  # told of every finished run that a list shows
        self._heap: list[_Due] = []
        self._known: set[str] = set()
        self._listed_at: datetime | None = None

    def finished(self, run: Run, completed: datetime) -> None:
        """A run got its verdict."""
        if not run.keep:
            self._push(completed + run.spec.ttl_after_finished, run.namespace, run.name, run.uid)

    def let_go(self, namespace: str, name: str, uid: str) -> None:
        """Its time to live has been ended."""
        self._known.add(uid)
        heapq.heappush(self._heap, (self._clock(), namespace, name, uid))  # it may stand there for a later time, too

    async def keep(self) -> None:
        """For ever: delete what is due."""
        while True:
            try:
                await self._relist()
                await self._sweep()
            except ClusterError as error:
                log.warning("finished runs could not be looked at", error=str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _relist(self) -> None:
        now = self._clock()
        if self._listed_at is not None and now - self._listed_at < _RELIST:
            return
        self._listed_at = now
        heap: list[_Due] = []
        async for obj in finished_runs(self._cluster, self._namespaces):
            self._seen(obj, now)
            due = _due(obj)
            if due is not None:
                metadata = obj["metadata"]
                heap.append((due, metadata["namespace"], metadata["name"], metadata["uid"]))
        self._known = {entry[3] for entry in heap}
        self._heap = heap
        heapq.heapify(self._heap)

    async def _sweep(self) -> None:
        now = self._clock()
        due: list[_Due] = []
        while self._heap and self._heap[0][0] <= now and len(due) < _AT_ONCE:
            due.append(heapq.heappop(self._heap))
        if not due:
            return
        recorded = await self._history.recorded(entry[3] for entry in due)
        for _, namespace, name, uid in due:
            self._known.discard(uid)
            if uid not in recorded:
                self._push(now + _AGAIN, namespace, name, uid)
                continue
            await self._delete(namespace, name, uid, now)

    async def _delete(self, namespace: str, name: str, uid: str, now: datetime) -> None:
        try:
            obj = await self._cluster.get(TESTRUNS, namespace, name)
        except NotFound:
            return
        due = _due(obj)
        if obj["metadata"]["uid"] != uid or due is None:
            return
        if due > now:  # somebody asked for a longer life meanwhile
            self._push(due, namespace, name, uid)
            return
        await self._cluster.delete(TESTRUNS, namespace, name, uid=uid)
        log.info("run deleted by its time to live", namespace=namespace, run=name)

    def _push(self, due: datetime, namespace: str, name: str, uid: str) -> None:
        if uid not in self._known:
            self._known.add(uid)
            heapq.heappush(self._heap, (due, namespace, name, uid))


def _due(obj: JsonObject) -> datetime | None:
    """When a finished run's life is over; None for one that a GitOps tool would only create again."""
    completed = (obj.get("status") or {}).get("completionTime")
    if not completed or is_tracked(obj["metadata"]):
        return None
    text = (obj.get("spec") or {}).get("ttlAfterFinished")
    try:
        return parse_time(completed) + (parse_duration(text) if text else _DEFAULT)
    except ValueError:  # of another release, or of nobody's making: it stays for people to look at
        return None
