"""How many tasks a second: one run of many, many runs of one, and bare Jobs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.clock import now_ms
from benchmarks.place import Place, job_body, run_body
from benchmarks.starts import NOTHING
from dawg_orchestrator.cluster.client import JOBS, TESTRUNS

_SHARDS = 50


@dataclass(frozen=True)
class Throughput:
    """Tasks a second of each arm, one figure a round."""

    one_run: list[float]
    many_runs: list[float]
    bare: list[float]

    def wire(self) -> dict[str, Any]:
        """For JSON."""
        return {"one_run_per_s": self.one_run, "one_task_runs_per_s": self.many_runs, "bare_jobs_per_s": self.bare}


async def compare(
    place: Place, pool: str, rounds: int, tasks: int, jobs: int, tell: Callable[[str], None]
) -> Throughput:
    """Alternate: bare Jobs all at once, one run of many tasks, as many runs of one task."""
    one_run, many_runs, bare = [], [], []
    for number in range(1, rounds + 1):
        tell(f"round {number} of {rounds}: {jobs} bare Jobs")
        bare.append(await _bare_jobs(place, jobs))
        tell(f"round {number} of {rounds}: a run of {tasks} tasks")
        one_run.append(await _one_run(place, pool, tasks))
        tell(f"round {number} of {rounds}: {tasks} runs of a task")
        many_runs.append(await _many_runs(place, pool, tasks))
    return Throughput(one_run, many_runs, bare)


async def _bare_jobs(place: Place, count: int) -> float:
    bodies = [job_body(place, ["/bin/true"]) for _ in range(count)]
    begun = now_ms()
    await asyncio.gather(*(place.create(JOBS, body) for body in bodies))
    ends = await place.jobs.until_ended(*(body["metadata"]["name"] for body in bodies))
    return count / (max(ends) - begun) * 1000


async def _one_run(place: Place, pool: str, tasks: int) -> float:
    parts = [str(number) for number in range(tasks // _SHARDS)]
    body = run_body(place, pool, {**NOTHING, "matrix": {"part": parts}, "shards": {"count": _SHARDS}})
    begun = await place.create(TESTRUNS, body)
    (ended,) = await place.runs.until_ended(body["metadata"]["name"])
    return tasks / (ended - begun) * 1000


async def _many_runs(place: Place, pool: str, count: int) -> float:
    bodies = [run_body(place, pool, NOTHING) for _ in range(count)]
    begun = now_ms()
    await asyncio.gather(*(place.create(TESTRUNS, body) for body in bodies))
    ends = await place.runs.until_ended(*(body["metadata"]["name"] for body in bodies))
    return count / (max(ends) - begun) * 1000
