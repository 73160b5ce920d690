"""What cannot be beaten on this machine: the apiserver's own round trips, and spawning the same program.

The objects are as large as those of a warm run and lie in a namespace that DAWG does not watch, so that nobody but the
two processes of the benchmark looks at them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.answerer import READY
from benchmarks.clock import now_ms
from benchmarks.logs import Api, api
from benchmarks.place import LABEL, Place, Watched, run_body, tidied, watch
from dawg_orchestrator.cluster.client import TESTRUNS, JsonObject, Resource
from dawg_orchestrator.errors import Conflict

NAMESPACE = "dawg-bench-floor"
NAMESPACES = Resource("", "v1", "namespaces")
SPAWNS = Path(__file__).with_name("spawns.py").read_text()


@dataclass(frozen=True)
class Spawned:
    """Milliseconds from a spawn to the program's first instruction, and to its end being known."""

    begun: list[float]
    ended: list[float]


@dataclass
class Floor:
    """The two processes at work."""

    place: Place
    runs: Watched
    seen: dict[str, float] = field(default_factory=dict)
    told: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self, lines: asyncio.StreamReader) -> None:
        """For ever: hear from the answerer when it saw what."""
        while line := await lines.readline():
            name, at = line.split()
            async with self.told:
                self.seen[name.decode()] = float(at)
                self.told.notify_all()

    async def round_trip(self, pool: str, task: JsonObject) -> tuple[float, float]:
        """Milliseconds from an acknowledged creation to its sight elsewhere, and to the status that comes back."""
        body = run_body(self.place, pool, task)
        name = body["metadata"]["name"]
        created = await self.place.create(TESTRUNS, body, NAMESPACE)
        (ended,) = await self.runs.until_ended(name)
        async with self.told:
            await self.told.wait_for(lambda: name in self.seen)
        return self.seen.pop(name) - created, ended - created

    async def rate(self, pool: str, task: JsonObject, count: int) -> float:
        """Objects a second that can be created and given a status, when all are created at once."""
        bodies = [run_body(self.place, pool, task) for _ in range(count)]
        begun = now_ms()
        await asyncio.gather(*(self.place.create(TESTRUNS, body, NAMESPACE) for body in bodies))
        ends = await self.runs.until_ended(*(body["metadata"]["name"] for body in bodies))
        return count / (max(ends) - begun) * 1000


@asynccontextmanager
async def opened(place: Place, status: JsonObject) -> AsyncIterator[Floor]:
    """A namespace of its own, and an answerer that writes this status; nothing of it is left afterwards."""
    with suppress(Conflict):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await place.cluster.create(NAMESPACES, None, body)
    floor = Floor(place, Watched())
    command = (sys.executable, "-m", "benchmarks.answerer", NAMESPACE, f"{LABEL}={place.mark}")
    pipe = asyncio.subprocess.PIPE
    answerer = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=os.environ)
    assert answerer.stdin is not None  # noqa: S101
    answerer.stdin.write(json.dumps(status).encode())
    answerer.stdin.write_eof()
    assert answerer.stdout is not None  # noqa: S101
    if (await answerer.stdout.readline()).decode().strip() != READY:
        raise RuntimeError("the answerer did not start")
    tasks = [
        asyncio.create_task(watch(place, TESTRUNS, floor.runs, NAMESPACE)),
        asyncio.create_task(floor.read(answerer.stdout)),
    ]
    try:
        yield floor
    finally:
        for task in tasks:
            task.cancel()
        answerer.kill()
        await answerer.wait()
        await asyncio.gather(*tasks, return_exceptions=True)
        await tidied(place, NAMESPACE, TESTRUNS)
        await place.cluster.delete(NAMESPACES, None, NAMESPACE)


async def spawn(place: Place, pool: str, count: int) -> str:
    """Spawn programs one by one in a slot of the pool; the run whose log tells how long that took."""
    body = run_body(place, pool, {"name": "spawns", "command": ["python3", "-c", SPAWNS, str(count)]})
    await place.create(TESTRUNS, body)
    await place.runs.until_ended(body["metadata"]["name"])
    return str(body["metadata"]["name"])


def spawned(door: Api, run: str) -> Spawned:
    """What such a run's log tells."""
    pairs = [line.split() for line in door.run_log(run).splitlines()]
    return Spawned([float(begun) for begun, _ in pairs], [float(ended) for _, ended in pairs])


async def spawn_rate(place: Place, pool: str, slots: int, each: int) -> float:
    """Programs a second, spawned one after the other in every slot at the same time."""
    command = ["python3", "-c", SPAWNS, str(each), "rate"]
    body = run_body(place, pool, {"name": "spawns", "command": command, "shards": {"count": slots}})
    await place.create(TESTRUNS, body)
    await place.runs.until_ended(body["metadata"]["name"])
    with api() as door:
        times = [door.run_log(body["metadata"]["name"], index).split() for index in range(slots)]
    return slots * each / (max(float(end) for _, end in times) - min(float(begin) for begin, _ in times)) * 1000
