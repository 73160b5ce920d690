"""The watch of TestRuns: list, watch, and list again when the watch cannot go on.

kopf watches everything else. What it does around each event would cost every test half a millisecond before it starts,
and every live run a copy of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, WatchExpired
from dawg_orchestrator.cluster.observe import UNFINISHED
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.resync import tell
from dawg_orchestrator.errors import ClusterError

log = structlog.get_logger()

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before a watch is opened anew, be it that the server ended it

ForgetRun = Callable[[str], Awaitable[None]]


async def watch_runs(
    cluster: Cluster,
    namespaces: Iterable[str],
    desk: Desk,
    forget_run: ForgetRun,
    shortest_pause: float = _SHORTEST_PAUSE,
) -> None:
    """For ever: tell the desk of every change to an unfinished TestRun.

    A watch that ended is opened anew after ``shortest_pause`` seconds, and after twice as many each time that it brings
    nothing.
    """
    async with asyncio.TaskGroup() as group:
        for namespace in namespaces:
            group.create_task(_RunWatch(cluster, namespace, desk, forget_run, shortest_pause).keep())


class _RunWatch:
    """One namespace's. A run leaves it by its deletion or its verdict, both of which it calls DELETED."""

    def __init__(
        self, cluster: Cluster, namespace: str, desk: Desk, forget_run: ForgetRun, shortest_pause: float
    ) -> None:
        self._cluster, self._namespace, self._desk, self._forget_run = cluster, namespace, desk, forget_run
        self._version = desk.runs_listed_at.get(namespace, "")
        self._pause = self._shortest_pause = shortest_pause
        self._forgetting: set[asyncio.Future[None]] = set()

    async def keep(self) -> None:
        """Watch; ends only by being cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except WatchExpired:
                self._version = ""
            except ClusterError as error:
                log.warning("the watch of testruns broke", namespace=self._namespace, error=str(error)[:300])
            await asyncio.sleep(self._pause)
            self._pause = min(_LONGEST_PAUSE, 2 * self._pause)

    async def _watch(self) -> None:
        async for kind, thing in self._cluster.watch(TESTRUNS, self._namespace, self._version, UNFINISHED):
            if kind == "DELETED":
                self._forget(thing["metadata"]["uid"])
            elif kind != "BOOKMARK":
                tell(self._desk, TESTRUNS, thing)
            self._version = thing["metadata"]["resourceVersion"]
            self._pause = self._shortest_pause

    async def _list(self) -> None:
        """Everything, whatever was missed: what was on the desk before and is not in the list has gone."""
        before = {run.uid for run in self._desk.runs.values() if run.namespace == self._namespace}
        version = ""
        async for page, version in self._cluster.pages(TESTRUNS, self._namespace, UNFINISHED):  # noqa: B007
            for run in page:
                before.discard(run["metadata"]["uid"])
                tell(self._desk, TESTRUNS, run)
        for uid in before:
            self._forget(uid)
        self._version = version

    def _forget(self, uid: str) -> None:
        if uid not in self._desk.runs:
            self._desk.drop_run(uid)  # so that a late word does not bring it back
            return
        # Telling its agents may take seconds, and the events of other runs must not wait for that.
        forgetting = asyncio.ensure_future(self._forget_run(uid))
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._forgetting.discard)
