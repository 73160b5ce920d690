"""Ten thousand live runs: what they cost in memory, whether an urgent one is held up, how soon a new leader works.

All wait in the queue of one warm pool whose one slot is held. Then urgent runs go through that queue one after the
other, each created while the one before it holds the slot. At last the pool is paused and the controller killed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks import usage
from benchmarks.clock import stamp_ms
from benchmarks.figures import Figure, Part, Ratio, ratio, spread
from benchmarks.logs import api
from benchmarks.place import NAMESPACE, Place, run_body
from benchmarks.starts import NOTHING, STAMP
from dawg_orchestrator.cluster.client import AGENTPOOLS, TESTRUNS
from localcluster import kubectl

_STEPS = 4
_AT_ONCE = 32
_URGENT = {"name": "urgent", "command": ["/bin/sh", "-c", "stamp; sleep 0.3; stamp"]}
_HOLDER = {"name": "holder", "command": ["/bin/sh", "-c", "exec sleep 3600"]}
_QUIET_CPU = 0.05  # of a core: what the controller uses when it has nothing to do
_CONTROLLER = "app.kubernetes.io/component=controller"


@dataclass(frozen=True)
class Level:
    """The controller's memory with so many live runs."""

    runs: int
    rss_mib: float


async def measure(
    place: Place, crowded: str, free: str, count: int, urgent: int, restarts: int, tell: Callable[[str], None]
) -> Part:
    """Fill the pool ``crowded``, which has one slot; runs in the pool ``free`` show when a new leader works."""
    tell("urgent runs in an empty queue")
    empty = await _hand_overs(place, crowded, urgent)
    holder = await _hold(place, crowded)
    levels = [Level(0, await _settled_rss())]
    for step in range(1, _STEPS + 1):
        tell(f"{count * step // _STEPS} runs wait")
        await _queue(place, crowded, count // _STEPS)
        levels.append(Level(count * step // _STEPS, await _settled_rss()))
    tell(f"urgent runs in a queue of {count}")
    full = await _hand_overs(place, crowded, urgent, holder)
    await _settled_rss()
    dispatches: list[float] = []
    used = usage.Usage()
    for number in range(1, restarts + 1):
        tell(f"restart {number} of {restarts}")
        with usage.measured(used):
            dispatches.append(await _restart(place, free))
    figures = [_memory(levels), _queueing(ratio(full, empty), full, empty, count), *_restarting(dispatches, used)]
    samples = {"crowd_runs": [float(level.runs) for level in levels],
               "crowd_rss_mib": [level.rss_mib for level in levels], "urgent_empty_ms": empty, "urgent_full_ms": full,
               "first_dispatch_ms": dispatches}  # fmt: skip
    return Part(figures, samples)


def _memory(levels: list[Level]) -> Figure:
    last = levels[-1]
    slope = (last.rss_mib - levels[0].rss_mib) * 1024 / last.runs
    name = f"controller, RSS with {last.runs} live runs"
    return Figure(
        "memory.rss_mib", name, f"{last.rss_mib:.0f} MiB", "", last.rss_mib,
        f"{last.rss_mib:.0f} MiB, {slope:.1f} KiB a run", "≤ 140 MiB",
    )  # fmt: skip


def _queueing(times: Ratio, full: list[float], empty: list[float], count: int) -> Figure:
    name = f"slot freed → urgent test, {count} waiting"
    told = f"{times} of the time in an empty queue ({spread(empty)} ms)"
    return Figure("queue.urgent", name, f"{spread(full)} ms", "", times.value, told, "≤ 1.2")


def _restarting(dispatches: list[float], used: usage.Usage) -> list[Figure]:
    slowest, times = max(dispatches) / 1000, ", ".join(f"{ms / 1000:.1f}" for ms in dispatches)
    return [
        Figure("restart.dispatch_s", "new leader: all listed → first instruction", f"{times} s", "", slowest,
               f"{slowest:.1f} s at worst", "≤ 2 s"),
        Figure("restart.refused", "answers 429 meanwhile", str(used.refused), "", used.refused, str(used.refused), "0"),
    ]  # fmt: skip


async def _queue(place: Place, pool: str, count: int) -> None:
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def create() -> None:
        body = run_body(place, pool, NOTHING)
        body["spec"]["priority"] = "low"
        async with at_once:
            await place.create(TESTRUNS, body)

    await asyncio.gather(*(create() for _ in range(count)))


async def _settled_rss() -> float:
    """MiB of the controller, once it has come to rest."""
    async with asyncio.timeout(600):
        while True:
            before = usage.controller_cpu_seconds()
            await asyncio.sleep(2)
            if usage.controller_cpu_seconds() - before <= 2 * _QUIET_CPU:
                return usage.rss_mib()


async def _create_critical(place: Place, pool: str, task: dict[str, Any]) -> str:
    body = run_body(place, pool, task)
    body["spec"]["priority"] = "critical"
    await place.create(TESTRUNS, body)
    return str(body["metadata"]["name"])


async def _hold(place: Place, pool: str) -> str:
    """A run that keeps the slot until it is cancelled."""
    name = await _create_critical(place, pool, _HOLDER)
    async with asyncio.timeout(60):
        while True:
            run = await place.cluster.get(TESTRUNS, NAMESPACE, name)
            if (run.get("status") or {}).get("startTime"):
                return name
            await asyncio.sleep(0.1)


async def _hand_overs(place: Place, pool: str, count: int, holder: str = "") -> list[float]:
    """Milliseconds from the end of one urgent test to the first instruction of the next, which waited for the slot."""
    names = [await _create_critical(place, pool, _URGENT) for _ in range(2)]
    if holder:
        await place.cluster.patch(TESTRUNS, NAMESPACE, holder, {"spec": {"cancelled": True}})
    for number in range(count):
        await place.runs.until_ended(names[number])
        if number < count - 1:
            names.append(await _create_critical(place, pool, _URGENT))
        elif holder:
            await _pause(place, pool)  # while the last one holds the slot
    await place.runs.until_ended(*names)
    with api() as door:
        stamps = [[int(line) / 1e6 for line in door.run_log(name).split()] for name in names]
    return [after[0] - before[1] for before, after in itertools.pairwise(stamps)]


async def _pause(place: Place, pool: str) -> None:
    await place.cluster.patch(AGENTPOOLS, NAMESPACE, pool, {"spec": {"paused": True}})


async def _restart(place: Place, free: str) -> float:
    """Kill the controller; ms from the new leader's list to the first instruction of a run that came meanwhile."""
    former, process = _pods(), usage.controller()
    kubectl.run("--namespace", NAMESPACE, "delete", "pod", "--wait=false", "--grace-period=0", "--force", *former)
    async with asyncio.timeout(60):
        while process is not None and process.exists():  # noqa: ASYNC110 - it would still take the run
            await asyncio.sleep(0.02)
    body = run_body(place, free, STAMP)
    await place.create(TESTRUNS, body)
    name = body["metadata"]["name"]
    await place.runs.until_ended(name, within=180)
    with api() as door:
        begun = stamp_ms(door.run_log(name))
    serving = [_serving_since(pod) for pod in _pods() if pod not in former]
    await _settled_rss()
    return begun - max(at for at in serving if at is not None)


def _pods() -> list[str]:
    answer = kubectl.run("--namespace", NAMESPACE, "get", "pods", "--selector", _CONTROLLER, "--output", "json")
    return [pod["metadata"]["name"] for pod in json.loads(answer)["items"]]


def _serving_since(pod: str) -> float | None:
    """When (ms) a controller had listed everything, as its log tells."""
    for line in kubectl.run("--namespace", NAMESPACE, "logs", pod).splitlines():
        if '"serving"' in line:
            event: dict[str, Any] = json.loads(line)
            return datetime.fromisoformat(event["timestamp"]).timestamp() * 1000
    return None
