"""How soon a test starts and its verdict is known: warm runs, bare Jobs and the floor in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import floors, usage
from benchmarks.clock import stamp_ms
from benchmarks.figures import Figure, Part, median, percentile, ratio, spread
from benchmarks.logs import api, job_log
from benchmarks.place import Place, job_body, run_body
from dawg_orchestrator.cluster.client import JOBS, TESTRUNS

STAMP: dict[str, Any] = {"name": "stamp", "command": ["/usr/local/bin/stamp"]}
NOTHING: dict[str, Any] = {"name": "nothing", "command": ["/bin/true"]}


@dataclass
class Arm:
    """Milliseconds from the acknowledged creation of a run or Job to its test's first instruction, and to its end."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


async def compare(place: Place, pool: str, rounds: int, warm_each: int, tell: Callable[[str], None]) -> Part:
    """Alternate: some warm runs, as many round trips and spawns, one bare Job. The first round only warms up.

    Starts are those of a test that writes a line, ends those of one that writes nothing. Stamps are read from the logs
    when all is over, so that reading disturbs nothing.
    """
    warm, bare, floor = Arm(), Arm(), Arm()
    created: dict[str, float] = {}
    jobs: dict[str, float] = {}
    spawns: list[str] = []
    used = usage.Usage()
    first, _, _ = await warm_run(place, pool, NOTHING)
    async with floors.opened(place, place.runs.objects[first]["status"]) as bottom:
        for number in range(rounds + 1):
            with usage.measured(used):
                for _ in range(warm_each):
                    name, at, _ = await warm_run(place, pool, STAMP)
                    _, begun, ended = await warm_run(place, pool, NOTHING)
                    created[name] = at
                    warm.ends.append(ended - begun)
            for _ in range(warm_each):
                seen, answered = await bottom.round_trip(pool, NOTHING)
                floor.starts.append(seen)
                floor.ends.append(answered)
            spawns.append(await floors.spawn(place, pool, warm_each))
            name, at, ended = await bare_job(place, STAMP)
            jobs[name] = at
            bare.ends.append(ended - at)
            if not number:
                for kept in (created, jobs, spawns, warm.ends, bare.ends, floor.starts, floor.ends):
                    kept.clear()
            tell(f"round {number} of {rounds}")
    tell("reading the stamps")
    with api() as door:
        warm.starts = [stamp_ms(door.run_log(name)) - at for name, at in created.items()]
        spawned = [floors.spawned(door, run) for run in spawns]
    bare.starts = [stamp_ms(job_log(name)) - at for name, at in jobs.items()]
    _add(floor.starts, [ms for one in spawned for ms in one.begun])
    _add(floor.ends, [ms for one in spawned for ms in one.ended])
    samples = {
        f"{name}_ms": found
        for name, found in (
            ("warm_start", warm.starts), ("bare_start", bare.starts), ("floor_start", floor.starts),
            ("warm_verdict", warm.ends), ("bare_complete", bare.ends), ("floor_verdict", floor.ends),
        )
    }  # fmt: skip
    runs = 2 * warm_each * (rounds + 1)
    writes = sum(count for who, count in used.writes.items() if who.endswith(("testruns", "testruns/status"))) / runs
    told = f"{writes:.2f}"
    written = Figure("writes", "writes to the API for a warm run", told, "", writes, told, "≤ 3")
    return Part([*_figures(warm, bare, floor), written], samples, used.wire(runs), used.told(runs))


def _add(trips: list[float], spawns: list[float]) -> None:
    """A floor is a round trip and a spawn, one after the other."""
    trips[:] = [trip + spawn for trip, spawn in zip(trips, spawns, strict=True)]


def _figures(warm: Arm, bare: Arm, floor: Arm) -> list[Figure]:
    def figure(
        key: str, name: str, goal: str, arms: tuple[list[float], list[float], list[float]], share: float
    ) -> Figure:
        ours, theirs, bottom = arms
        times = ratio(theirs, ours, share)
        return Figure(
            key, name, f"{spread(ours)} ms", f"{median(theirs):.0f} ms", times.value, f"{times} times faster", goal,
            f"{spread(bottom)} ms", percentile(ours, share) / percentile(bottom, share),
        )  # fmt: skip

    starts, ends = (warm.starts, bare.starts, floor.starts), (warm.ends, bare.ends, floor.ends)
    return [
        figure("start.p50", "warm: created → first instruction, p50", "≥ 200", starts, 0.5),
        figure("start.p99", "the same, at p99", "≥ 60", starts, 0.99),
        figure("verdict.p50", "warm: created → verdict seen", "≥ 120", ends, 0.5),
    ]


async def warm_run(place: Place, pool: str, task: dict[str, Any]) -> tuple[str, float, float]:
    """Name, when (ms) it was created, when its verdict was seen."""
    body = run_body(place, pool, task)
    name = body["metadata"]["name"]
    created = await place.create(TESTRUNS, body)
    (ended,) = await place.runs.until_ended(name)
    if place.runs.objects[name]["status"]["verdict"] != "Passed":
        raise RuntimeError(f"{name} did not pass: {place.runs.objects[name]['status']}")
    return name, created, ended


async def bare_job(place: Place, task: dict[str, Any]) -> tuple[str, float, float]:
    """Name, when (ms) it was created, when its Complete was seen."""
    body = job_body(place, task["command"])
    name = body["metadata"]["name"]
    created = await place.create(JOBS, body)
    (ended,) = await place.jobs.until_ended(name)
    return name, created, ended
