"""A task in a Job of its own beside a bare Job: when its container starts, when its verdict is known."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import usage
from benchmarks.clock import stamp_ms
from benchmarks.figures import Figure, Part, Ratio, median, ratio, spread
from benchmarks.logs import api, job_log
from benchmarks.place import Place
from benchmarks.starts import STAMP, Arm, bare_job, warm_run


async def compare(place: Place, pool: str, rounds: int, tell: Callable[[str], None]) -> Part:
    """Alternate: a run in a pool of Jobs, a bare Job. The first round warms up and does not count."""
    ours, bare = Arm(), Arm()
    runs: dict[str, float] = {}
    jobs: dict[str, float] = {}
    used = usage.Usage()
    for number in range(rounds + 1):
        with usage.measured(used):
            run, created, ended = await warm_run(place, pool, STAMP)
        job, at, complete = await bare_job(place, STAMP)
        if number:
            runs[run], jobs[job] = created, at
            ours.ends.append(ended - created)
            bare.ends.append(complete - at)
        tell(f"round {number} of {rounds}")
    tell("reading the stamps")
    with api() as door:
        ours.starts = [stamp_ms(door.run_log(name)) - at for name, at in runs.items()]
    bare.starts = [stamp_ms(job_log(name)) - at for name, at in jobs.items()]
    start, verdict = ratio(ours.starts, bare.starts), ratio(ours.ends, bare.ends)
    figures = [
        _figure("job.start", "Job: created → first instruction", ours.starts, bare.starts, start, "≤ 1.05"),
        _figure("job.verdict", "Job: created → verdict seen", ours.ends, bare.ends, verdict, "< 1"),
    ]
    samples = {"job_start_ms": ours.starts, "job_verdict_ms": ours.ends,
               "beside_job_start_ms": bare.starts, "beside_job_complete_ms": bare.ends}  # fmt: skip
    return Part(figures, samples, used.wire(rounds + 1), f"of a run in a Job:\n{used.told(rounds + 1)}")


def _figure(key: str, name: str, ours: list[float], bare: list[float], by: Ratio, goal: str) -> Figure:
    return Figure(key, name, f"{spread(ours)} ms", f"{median(bare):.0f} ms", by.value, f"{by} of a bare Job's", goal)
