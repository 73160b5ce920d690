"""Which faults are tried, several to a load, and what history says after each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from chaosruns import faults
from chaosruns.audit import AuditLog
from chaosruns.eventually import until
from chaosruns.history import Findings, check
from chaosruns.journal import Journal
from chaosruns.load import Load, Loads, ready
from chaosruns.place import NAMESPACE
from chaosruns.points import Point
from chaosruns.proxy import Armed
from chaosruns.trouble import TROUBLES, Scene, kill_leader
from dawg_orchestrator.cluster.client import JOBS, PODS, JsonObject
from dawg_orchestrator.errors import ClusterError
from dawg_orchestrator.resources import names

_LATE_SECONDS = 8.0
_PATIENCE_SECONDS = 90.0
_TIDY_SECONDS = 15.0
_TRIES = 4


@dataclass
class Outcome:
    """What one load has shown."""

    struck: list[Point]
    findings: Findings
    seconds: float  # from the end of the last fault until every run had its verdict


@dataclass
class Campaign:
    """Tries points until none is left or time is up."""

    scene: Scene
    loads: Loads
    journal: Journal
    audit: AuditLog
    unreached: list[Point] = field(default_factory=list)  # their call did not come
    _standing: dict[Point, Armed] = field(default_factory=dict)  # faults that wait for their call, from load to load
    _tries: Counter[Point] = field(default_factory=Counter)
    _made_at: float = 0.0  # when the trouble of the latest load was over

    @property
    def standing(self) -> list[Point]:
        """Points that were armed in an earlier load, and whose call has not come yet."""
        return list(self._standing)

    async def record(self) -> Counter[str]:
        """The calls of a load without faults, but for a leader that is killed: starting is part of the work."""
        await self.strike([Point("kill-leader")], more=("scale", "newpool"))
        return self.scene.proxy.calls

    async def strike(self, points: Sequence[Point], more: Iterable[str] = ()) -> Outcome:
        """One load, with faults at these points and at those that stand; trouble of another sort comes alone."""
        troubled = any(not point.kind for point in points)
        armed = {} if troubled else self._standing
        for point in points:
            if point.kind:
                armed[point] = Armed(point.kind, point.fault, point.nth)
        wanted = sorted({*more, *(need for point in [*points, *armed] for need in _needs(point))})
        await self._until_ready()
        late = any(point.is_late for point in armed)
        if late:
            await kill_leader(self.scene)
            await asyncio.sleep(_LATE_SECONDS)
        self.scene.proxy.arm(armed.values())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._make(points, late=late))
            starting = group.create_task(self.loads.start(more=wanted))
        load = starting.result()
        finished_at = await self._until_finished(load)
        await self._until_over(armed.values())
        self.scene.proxy.arm(())
        ends = [load.created_at, self._made_at, *(one.ended_at for one in armed.values() if one.ended_at is not None)]
        findings = await self._look_back(load)
        await self.loads.tidy(load, more=wanted)
        struck = [point for point in points if not point.kind] + self._sort_out(armed)
        return Outcome(struck, findings, max(0.0, finished_at - max(ends)))

    def _sort_out(self, armed: dict[Point, Armed]) -> list[Point]:
        """The points that were struck; the others stand on, but not for ever."""
        struck = [point for point, one in armed.items() if one.ended_at is not None]
        for point in struck:
            del armed[point]
        self._tries.update(list(armed))
        for point in [point for point in armed if point.is_late or self._tries[point] >= _TRIES]:
            del armed[point]
            self.unreached.append(point)
        return struck

    async def _make(self, points: Sequence[Point], *, late: bool) -> None:
        """Trouble in the middle of things; else a leader dies, since starting makes calls too."""
        await asyncio.sleep(1)
        for point in points:
            if not point.kind:
                await TROUBLES[point.fault].make(self.scene)
        if not late and all(point.kind for point in points):
            await kill_leader(self.scene)
        self._made_at = time.monotonic()

    async def _until_ready(self) -> None:
        with suppress(TimeoutError):
            await until(self._is_ready, within=60)

    async def _is_ready(self) -> bool:
        with suppress(ClusterError):
            return await ready(self.scene.cluster)
        return False

    async def _until_finished(self, load: Load) -> float:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        waiting = {run.name for run in load.runs}
        while waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            self.audit.read_on()
            waiting -= {write.run for write in self.audit.writes if write.status.get("verdict")}
        return time.monotonic()

    async def _until_over(self, armed: Iterable[Armed]) -> None:
        """Faults that have begun come to their end."""
        fired = [one.over.wait() for one in armed if one.fired_at is not None]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*fired), faults.SILENT_SECONDS + 2)

    async def _look_back(self, load: Load) -> Findings:
        left = await self._left(load)
        deadline = time.monotonic() + _TIDY_SECONDS
        while left and time.monotonic() < deadline:
            await asyncio.sleep(0.3)
            left = await self._left(load)
        self.audit.read_on()
        jobs = {name: times for name, times in self.audit.jobs_created.items() if load.mark in name}
        findings = check(load.runs, self.audit.writes, self.journal.stays, jobs)
        findings.orphans += left
        self.audit.writes.clear()
        self.audit.jobs_created.clear()
        self.journal.stays = [stay for stay in self.journal.stays if stay.ended is None]
        return findings

    async def _left(self, load: Load) -> list[str]:
        """Processes, pods and Jobs that still work for runs that are finished, and that nobody has asked to end."""
        selector = {"labelSelector": f"{names.ROLE}=task"}
        try:
            pods, _ = await self.scene.cluster.list(PODS, NAMESPACE, selector)
            jobs, _ = await self.scene.cluster.list(JOBS, NAMESPACE, selector)
        except ClusterError as error:
            return [f"the cluster could not be asked: {error}"]
        # A container that started as its pod was deleted may miss the signal; the kubelet kills it after its grace.
        ended = [pod["metadata"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
        ending = {metadata["annotations"].get(names.RUN_NAME) for metadata in ended}
        found = [
            f"a test of {stay.run} {stay.task} still runs" for stay in self.journal.stays
            if load.mark in stay.run and stay.ended is None and stay.run not in ending
        ]  # fmt: skip
        for kind, items, works in (("pod", pods, _pod_works), ("Job", jobs, _job_works)):
            mine = [item["metadata"] for item in items if load.mark in item["metadata"]["name"] and works(item)]
            found += [
                f"{kind} {metadata['name']} still works" for metadata in mine if "deletionTimestamp" not in metadata
            ]
        return found


def _needs(point: Point) -> Sequence[str]:
    """Further work without which the point's calls do not happen."""
    if not point.kind:
        return TROUBLES[point.fault].more
    if "create deployments" in point.kind or "delete deployments" in point.kind:
        return ("newpool",)
    return ("scale",) if "deployments" in point.kind or " patch pods" in point.kind else ()


def _pod_works(pod: JsonObject) -> bool:
    return pod["status"].get("phase") in ("Pending", "Running")


def _job_works(job: JsonObject) -> bool:
    conditions = job.get("status", {}).get("conditions") or ()
    return not any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)
