"""The command `hack/bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import starts, throughput, usage
from benchmarks.figures import Spread, ratio
from benchmarks.place import Place, opened
from dawg_orchestrator.errors import ClusterError as ApiError
from localcluster import commands, engine, kubectl, packages, paths
from localcluster.errors import ClusterError
from localcluster.images import Image
from localcluster.install import RESOURCE
from localcluster.lock import cluster_lock
from localcluster.progress import Step, say, step

BENCH = Image("dawg-bench", paths.REPOSITORY / "tests" / "images" / "bench" / "Dockerfile")
RESULT = paths.REPOSITORY / "build" / "bench.json"
PARTS = ("start", "throughput")
EXAMPLES = """\
examples:
  hack/bench                       everything; about ten minutes
  hack/bench start --rounds 5      only how soon tests start, and quickly
  hack/bench --output json

Needs the cluster of hack/up. Figures are ratios to bare Jobs of the same run on the same machine; the samples are in
build/bench.json.
"""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/bench", description="Measure how fast runs are, beside bare Jobs.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of the part start (default: 40)")
    parser.add_argument("--warm", type=int, default=25, help="warm runs in each of them (default: 25)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of the part throughput (default: 3)")
    parser.add_argument("--tasks", type=int, default=500, help="tasks of the part throughput (default: 500)")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part is named {unknown[0]!r}; there are {', '.join(PARTS)}")
    options.parts = options.parts or list(PARTS)
    return options


def main(arguments: Sequence[str]) -> int:
    """0 when everything was measured, else 1."""
    options = _parse(arguments)
    try:
        figures = asyncio.run(_measure(options, _image()))
    except (ClusterError, ApiError, RuntimeError, TimeoutError) as error:
        say(f"hack/bench: {type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nhack/bench: interrupted")
        return 130
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2))
    if options.output == "json":
        print(json.dumps(figures, indent=2))
    return 0


def _image() -> str:
    packages.check_go()
    if not paths.KUBECONFIG.exists() or not commands.succeeds(kubectl.command("get", "crd", RESOURCE)):
        raise ClusterError("No cluster with DAWG is running. Start one with hack/up.")
    with cluster_lock():
        chosen = engine.choose()
        image = chosen.build(BENCH)
        chosen.load([image])
    return image.reference


async def _measure(options: argparse.Namespace, image: str) -> dict[str, Any]:
    figures: dict[str, Any] = {"machine": _machine()}
    async with opened(image) as place:
        with step("start the agents"):
            pool = await place.pool(executor="Process", minAgents=2, maxAgents=2, slots=4)
        if "start" in options.parts:
            figures |= await _starts(options, place, pool)
        if "throughput" in options.parts:
            figures |= await _throughput(options, place, pool)
    return figures


async def _starts(options: argparse.Namespace, place: Place, pool: str) -> dict[str, Any]:
    with step("how soon a test starts") as current, usage.measured() as used:
        found = await starts.compare(place, pool, options.rounds, options.warm, _note(current))
    runs = 2 * (options.rounds + 1) * options.warm
    writes = {who: count / runs for who, count in used.writes.items() if "testruns" in who}
    if options.output == "table":
        _print_starts(found)
        print(f"\nwrites per warm run: {', '.join(f'{who} {count:.2f}' for who, count in sorted(writes.items()))}")
        print(f"controller: {used.cpu_seconds / runs * 1000:.2f} ms CPU per run, {used.rss_mib:.0f} MiB")
    cost = {"cpu_ms_per_run": used.cpu_seconds / runs * 1000, "rss_mib": used.rss_mib, "writes_per_run": writes}
    samples = {"warm_start_ms": found.warm.starts, "warm_verdict_ms": found.warm.ends,
               "bare_start_ms": found.bare.starts, "bare_complete_ms": found.bare.ends}  # fmt: skip
    return {**found.wire(), "cost": cost, "samples": samples}


def _print_starts(found: starts.Starts) -> None:
    print(f"{'':36}{'warm p50 / p95 / p99 ms':>28}{'bare p50 ms':>14}{'times faster (95 %)':>26}{'goal':>8}")
    for name, warm, bare, times, goal in found.rows():
        print(f"{name:36}{_milliseconds(warm):>28}{bare.p50:>14.0f}{times:>26}{goal:>8}")


def _milliseconds(spread: Spread) -> str:
    return f"{spread.p50:.1f} / {spread.p95:.1f} / {spread.p99:.1f}"


async def _throughput(options: argparse.Namespace, place: Place, pool: str) -> dict[str, Any]:
    with step("how many tasks a second") as current, usage.measured() as used:
        found = await throughput.compare(place, pool, options.repeat, options.tasks, 20, _note(current))
    if options.output == "table":
        bare = sorted(found.bare)[len(found.bare) // 2]
        print(f"\nbare Jobs, 20 at once: {bare:.1f} a second")
        for name, rates, goal in (
            (f"one run of {options.tasks} tasks", found.one_run, 150),
            (f"{options.tasks} runs of one task", found.many_runs, 50),
        ):
            print(f"{name:24} {', '.join(f'{rate:.0f}' for rate in rates)} a second: "
                  f"{ratio(rates, found.bare)} times a bare Job's rate (goal ≥ {goal})")  # fmt: skip
        print(f"controller: {used.rss_mib:.0f} MiB")
    return {"throughput": found.wire()}


def _note(current: Step) -> Callable[[str], None]:
    def note(text: str) -> None:
        current.note = text

    return note


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    model = next(models, platform.machine())
    version = json.loads(kubectl.run("get", "--raw", "/version"))["gitVersion"]
    return {"cpu": model, "kernel": platform.release(), "kubernetes": version, "command": " ".join(sys.argv[1:])}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
