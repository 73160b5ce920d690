"""How soon a test starts, and how soon its verdict is known: warm runs and bare Jobs in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.clock import stamp_ms
from benchmarks.figures import Ratio, Spread, ratio, spread
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


@dataclass(frozen=True)
class Starts:
    """The figures of one comparison."""

    warm: Arm
    bare: Arm

    def wire(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "start": {"warm_ms": spread(self.warm.starts).wire(), "bare_ms": spread(self.bare.starts).wire(),
                      "p50": self.start(0.5).wire(), "p99": self.start(0.99).wire()},
            "verdict": {"warm_ms": spread(self.warm.ends).wire(), "bare_ms": spread(self.bare.ends).wire(),
                        "p50": self.verdict().wire()},
        }  # fmt: skip

    def start(self, share: float) -> Ratio:
        """How many times sooner a warm test starts, at a percentile, than a bare Job's at the median."""
        return ratio(self.bare.starts, self.warm.starts, share)

    def verdict(self) -> Ratio:
        """How many times sooner a warm run's verdict is seen than a bare Job's Complete, at the median."""
        return ratio(self.bare.ends, self.warm.ends)

    def rows(self) -> list[tuple[str, Spread, Spread, str, str]]:
        """Name, warm, bare, ratio, goal."""
        starts = spread(self.warm.starts), spread(self.bare.starts)
        ends = spread(self.warm.ends), spread(self.bare.ends)
        return [
            ("create → first instruction, p50", *starts, str(self.start(0.5)), "≥ 200"),
            ("create → first instruction, p99", *starts, str(self.start(0.99)), "≥ 60"),
            ("create → verdict or Complete seen", *ends, str(self.verdict()), "≥ 120"),
        ]


async def compare(place: Place, pool: str, rounds: int, warm_each: int, tell: Callable[[str], None]) -> Starts:
    """Alternate: some warm runs one after the other, then one bare Job. The first round warms up and does not count.

    Starts are those of a test that writes a line, ends those of one that writes nothing. Stamps are read from the logs
    when all is over, so that reading disturbs nothing.
    """
    warm, bare = Arm(), Arm()
    created: dict[str, float] = {}
    jobs: dict[str, float] = {}
    for number in range(rounds + 1):
        for _ in range(warm_each):
            name, at, _ = await _warm_run(place, pool, STAMP)
            _, begun, ended = await _warm_run(place, pool, NOTHING)
            if number:
                created[name] = at
                warm.ends.append(ended - begun)
        name, at, ended = await _bare_job(place)
        if number:
            jobs[name] = at
            bare.ends.append(ended - at)
        tell(f"round {number} of {rounds}")
    tell("reading the stamps")
    with api() as door:
        warm.starts = [stamp_ms(door.run_log(name)) - at for name, at in created.items()]
    bare.starts = [stamp_ms(job_log(name)) - at for name, at in jobs.items()]
    return Starts(warm, bare)


async def _warm_run(place: Place, pool: str, task: dict[str, Any]) -> tuple[str, float, float]:
    """Name, when (ms) it was created, when its verdict was seen."""
    body = run_body(place, pool, task)
    name = body["metadata"]["name"]
    created = await place.create(TESTRUNS, body)
    (ended,) = await place.runs.until_ended(name)
    if place.runs.objects[name]["status"]["verdict"] != "Passed":
        raise RuntimeError(f"{name} did not pass: {place.runs.objects[name]['status']}")
    return name, created, ended


async def _bare_job(place: Place) -> tuple[str, float, float]:
    """Name, when (ms) it was created, when its Complete was seen."""
    body = job_body(place, STAMP["command"])
    name = body["metadata"]["name"]
    created = await place.create(JOBS, body)
    (ended,) = await place.jobs.until_ended(name)
    return name, created, ended
