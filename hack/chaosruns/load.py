"""The work that goes on while things break: short tests of every kind the core has."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chaosruns.eventually import until
from chaosruns.history import Cell, Declared
from chaosruns.journal import Journal
from chaosruns.place import NAMESPACE
from dawg_orchestrator.cluster.client import AGENTPOOLS, TESTRUNS, Cluster, JsonObject, Resource
from dawg_orchestrator.errors import Conflict, NotFound, Unavailable

WARM, JOB = "warm", "job"
_SHARDS = 12
_BETWEEN_SECONDS = 0.25  # two runs of a load
_POOLS: dict[str, dict[str, Any]] = {
    WARM: {"executor": "Process", "minAgents": 2, "maxAgents": 2, "slots": 4, "warm": {"workspace": "32Mi"}},
    JOB: {"executor": "Job", "minAgents": 1, "maxAgents": 2, "slots": 8, "scaling": {"scaleDownAfter": "1s"}},
}
_RETRY = {"infra": {"limit": 6}, "backoff": {"initial": "200ms", "factor": 1}}


@dataclass
class Load:
    """Runs that were created, with what is expected of them."""

    mark: str
    runs: list[Declared]
    created_at: float = 0.0  # when the last of them was


@dataclass(frozen=True)
class Work:
    """A run to be: each task with the cells that it becomes."""

    name: str
    pool: str
    tasks: list[tuple[JsonObject, list[Cell]]]
    spec: JsonObject = field(default_factory=dict)


async def create_pools(cluster: Cluster, image: str) -> None:
    """The pools of all loads, their agents connected."""
    for name, spec in _POOLS.items():
        await cluster.create(AGENTPOOLS, NAMESPACE, _body("AgentPool", name, {"jobTemplate": {"image": image}, **spec}))
    await until(lambda: ready(cluster), within=120)


async def ready(cluster: Cluster) -> bool:
    """Whether every pool has its agents."""
    for name, spec in _POOLS.items():
        status = (await cluster.get(AGENTPOOLS, NAMESPACE, name)).get("status") or {}
        if (status.get("readyAgents") or 0) < spec["minAgents"]:
            return False
    return True


class Loads:
    """Makes one load after the other. ``more`` names further kinds of work."""

    def __init__(self, cluster: Cluster, journal: Journal, image: str) -> None:
        self._cluster, self._journal, self._image = cluster, journal, image

    async def start(self, *, more: Sequence[str] = ()) -> Load:
        """Create the runs of a load, one after the other."""
        load = Load(secrets.token_hex(3), [])
        if "newpool" in more:
            spec = {"minAgents": 1, "maxAgents": 1, "jobTemplate": {"image": self._image}}
            await self._create(AGENTPOOLS, _body("AgentPool", f"fresh-{load.mark}", spec))
        for work in [*self._further(load.mark, more), *self._usual()]:
            declared = Declared(f"{work.name}-{load.mark}", tuple(cell for _, cells in work.tasks for cell in cells))
            spec = {"pool": work.pool, "tasks": [task for task, _ in work.tasks], "ttlAfterFinished": "1h", **work.spec}
            await self._create(TESTRUNS, _body("TestRun", declared.name, spec))
            load.runs.append(declared)
            await asyncio.sleep(_BETWEEN_SECONDS)
        if "scale" in more:
            await self._size(2)
        await self._cancel(f"stopped-{load.mark}")
        load.created_at = time.monotonic()
        return load

    async def tidy(self, load: Load, *, more: Sequence[str] = ()) -> None:
        """Remove the runs, and what came with them."""
        if "scale" in more:
            await self._size(1)
        for run in load.runs:
            await self._delete(TESTRUNS, run.name)
        if "newpool" in more:
            await self._delete(AGENTPOOLS, f"fresh-{load.mark}")

    def _usual(self) -> list[Work]:
        return [
            Work("one", WARM, [self._task("only", "true")], {"ttlAfterFinished": "1s"}),
            Work("wide", WARM, [self._task("part", "sleep 0.2", shards=_SHARDS)]),
            Work("alone", WARM, [self._task("x", "sleep 0.7", exclusive=True), self._task("y", "true", needs=["x"])]),
            Work("chain", WARM, [self._task("a", "echo 1 > $DAWG_OUTPUTS/v", outputs=["v"]),
                                 self._task("b", "test $DAWG_OUTPUT_A_V = 1", needs=["a"]),
                                 self._task("c", "true", needs=["b"])]),
            Work("again", WARM, [self._task("flaky", "test $DAWG_ATTEMPT -gt 1", letters="L", tests=3, after_loss="P"),
                                 self._task("bad", "exit 3", letters="F")]),
            Work("pods", JOB, [self._task("p", "sleep 0.5"), self._task("q", "sleep 0.5")]),
            Work("stopped", WARM, [self._task("w", "sleep 60", letters="C", runs=False),
                                   self._task("j", "sleep 60", letters="C", runs=False, pool=JOB)]),
        ]  # fmt: skip

    def _further(self, mark: str, more: Sequence[str]) -> list[Work]:
        eat = "python3 -c 'bytearray(1 << 30)'"
        fill = "head -c 100000000 /dev/zero > /dawg/workspace/fill"
        known = {
            "long": Work("long", WARM, [self._task("quick", "true"), self._task("part", "sleep 3", shards=4),
                                        self._task("x", "sleep 2", exclusive=True)]),
            # Still open when an agent that was cut off comes back with what it has finished meanwhile.
            "open": Work("open", WARM, [self._task("part", "sleep 3", shards=4),
                                        self._task("tail", "sleep 6", needs=["part"])]),
            "memory": Work("memory", JOB, [self._task("eat", eat, letters="I", runs=False,
                                                  resources={"limits": {"memory": "64Mi"}})]),
            "disk": Work("disk", WARM, [self._task("fill", fill, letters="F")]),
            "podalone": Work("podalone", JOB, [self._task("x", "sleep 2", exclusive=True)]),
            "newpool": Work("fresh", f"fresh-{mark}", [self._task("p", "true")]),
        }  # fmt: skip
        return [work for name, work in known.items() if name in more]

    def _task(
        self, name: str, body: str, *, letters: str = "P", shards: int = 0, exclusive: bool = False, runs: bool = True,
        tests: int = 0, after_loss: str = "", **fields: Any,
    ) -> tuple[JsonObject, list[Cell]]:  # fmt: skip
        retry = {**_RETRY, "tests": {"limit": tests}} if tests else _RETRY
        task: JsonObject = {"name": name, "command": self._journal.script(body), "retry": retry, **fields}
        if exclusive:
            task["exclusive"] = True
        if shards:
            task["shards"] = {"count": shards}
        return task, [Cell(name, number, letters, exclusive, runs, after_loss) for number in range(shards or 1)]

    async def _create(self, resource: Resource, body: JsonObject) -> None:
        with suppress(Conflict):  # created by a request whose answer got lost
            await until_answered(lambda: self._cluster.create(resource, NAMESPACE, body))

    async def _cancel(self, run: str) -> None:
        await until_answered(lambda: self._cluster.patch(TESTRUNS, NAMESPACE, run, {"spec": {"cancelled": True}}))

    async def _size(self, agents: int) -> None:
        spec = {"spec": {"minAgents": agents}}
        await until_answered(lambda: self._cluster.patch(AGENTPOOLS, NAMESPACE, JOB, spec))

    async def _delete(self, resource: Resource, name: str) -> None:
        await until_answered(lambda: self._cluster.delete(resource, NAMESPACE, name))


async def until_answered(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the apiserver answers, which is down now and then; what is gone needs nothing."""

    async def answered() -> bool:
        try:
            await ask()
        except NotFound:
            return True
        except Unavailable:
            return False
        return True

    await until(answered, within=60, every=0.3)


def _body(kind: str, name: str, spec: JsonObject) -> JsonObject:
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
