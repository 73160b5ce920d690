"""How many tasks a second: one run of many, many runs of one, bare Jobs and the floors beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks import floors, usage
from benchmarks.clock import now_ms
from benchmarks.figures import Figure, Part, median, ratio
from benchmarks.place import Place, job_body, run_body
from benchmarks.starts import NOTHING, warm_run
from dawg_orchestrator.cluster.client import JOBS, TESTRUNS

SHARDS = 50  # of each cell of the one run


async def compare(
    place: Place, pool: str, slots: int, rounds: int, tasks: int, jobs: int, tell: Callable[[str], None]
) -> Part:
    """Alternate: bare Jobs all at once, one run of many tasks, as many runs of one task, and what bounds the two."""
    one_run, many_runs, bare, spawned, written = [], [], [], [], []
    used = usage.Usage()
    first, _, _ = await warm_run(place, pool, NOTHING)
    async with floors.opened(place, place.runs.objects[first]["status"]) as bottom:
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}: {jobs} bare Jobs")
            bare.append(await _bare_jobs(place, jobs))
            tell(f"round {number} of {rounds}: a run of {tasks} tasks")
            one_run.append(await _one_run(place, pool, tasks))
            spawned.append(await floors.spawn_rate(place, pool, slots, tasks // slots))
            tell(f"round {number} of {rounds}: {tasks} runs of a task")
            with usage.measured(used):
                many_runs.append(await _many_runs(place, pool, tasks))
            written.append(await bottom.rate(pool, NOTHING, tasks))
    # A run costs a round trip and a spawn, on the same cores.
    both = [1 / (1 / trips + 1 / spawns) for trips, spawns in zip(written, spawned, strict=True)]
    figures = [
        _figure("throughput.one_run", f"one run of {tasks} tasks", one_run, bare, "≥ 150", spawned),
        _figure("throughput.one_task_runs", f"{tasks} runs of one task", many_runs, bare, "≥ 50", both),
    ]
    samples = {"one_run_per_s": one_run, "one_task_runs_per_s": many_runs, "bare_jobs_per_s": bare,
               "spawns_per_s": spawned, "created_and_answered_per_s": written}  # fmt: skip
    return Part(figures, samples, used.wire(rounds * tasks), f"{tasks} runs of one task:\n{used.told(rounds * tasks)}")


def _figure(key: str, name: str, ours: list[float], bare: list[float], goal: str, floor: list[float]) -> Figure:
    times = ratio(ours, bare)
    return Figure(
        key, name, f"{median(ours):.0f} a second", f"{median(bare):.1f} a second", times.value,
        f"{times} times as many", goal, f"{median(floor):.0f} a second", median(floor) / median(ours),
    )  # fmt: skip


async def _bare_jobs(place: Place, count: int) -> float:
    bodies = [job_body(place, ["/bin/true"]) for _ in range(count)]
    begun = now_ms()
    await asyncio.gather(*(place.create(JOBS, body) for body in bodies))
    ends = await place.jobs.until_ended(*(body["metadata"]["name"] for body in bodies))
    return count / (max(ends) - begun) * 1000


async def _one_run(place: Place, pool: str, tasks: int) -> float:
    parts = [str(number) for number in range(tasks // SHARDS)]
    body = run_body(place, pool, {**NOTHING, "matrix": {"part": parts}, "shards": {"count": SHARDS}})
    begun = await place.create(TESTRUNS, body)
    (ended,) = await place.runs.until_passed(body["metadata"]["name"])
    return tasks / (ended - begun) * 1000


async def _many_runs(place: Place, pool: str, count: int) -> float:
    bodies = [run_body(place, pool, NOTHING) for _ in range(count)]
    begun = now_ms()
    await asyncio.gather(*(place.create(TESTRUNS, body) for body in bodies))
    ends = await place.runs.until_passed(*(body["metadata"]["name"] for body in bodies))
    return count / (max(ends) - begun) * 1000
