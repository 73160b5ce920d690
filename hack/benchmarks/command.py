"""The command `hack/bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    anomalies,
    commits,
    crowd,
    edges,
    jobs,
    labelled,
    plans,
    publish,
    ranges,
    risk,
    starts,
    tables,
    takeover,
    throughput,
    timing,
)
from benchmarks.figures import Part
from benchmarks.place import Place, opened
from dawg_orchestrator.errors import ClusterError as ApiError
from dawg_orchestrator.resources.testrun import MAX_TASKS
from localcluster import commands, engine, kubectl, packages, paths
from localcluster.errors import ClusterError
from localcluster.images import Image
from localcluster.install import RESOURCE
from localcluster.lock import cluster_lock
from localcluster.progress import Step, say, step

BENCH = Image("dawg-bench", paths.REPOSITORY / "tests" / "images" / "bench" / "Dockerfile")
RESULT = paths.REPOSITORY / "build" / "bench.json"
PARTS = {
    "start": "how soon a warm test starts and its verdict is known",
    "throughput": "how many tasks a second",
    "job": "the same for tasks in Jobs",
    "crowd": "many live runs: memory, an urgent run among them, a new leader",
    "takeover": "how soon the second controller works when the first is killed",
    "edge": "what one need costs in a chain of warm tasks",
    "plan": "how long one look at a run of 1,000 tasks takes",
    "timing": "what smart Schedules gain over fixed times, in a simulation",
    "anomalies": "how well anomalies of metrics are found, beside a moving z-score",
    "risk": "how well the risk of commits is told, beside a logistic regression and the number of lines added",
}
_AGENTS, _SLOTS = 2, 4
EXAMPLES = """\
examples:
  hack/bench                       everything; about half an hour
  hack/bench start --rounds 5      only how soon tests start, and quickly
  hack/bench timing                only what smart Schedules gain; needs no cluster
  hack/bench --check               is what build/bench.json holds within hack/benchmarks/ranges.toml?
  hack/bench start --check         measure, then compare
  hack/bench anomalies --data DIR  on the labelled series in DIR or in DIR/metric-anomalies, which are laid out as in
                                   the Numenta Anomaly Benchmark; without --data on a few that are generated
  hack/bench risk --data DIR       on the commits in DIR or in DIR/commit-risk, one file a project; without --data on
                                   some that are generated
  hack/bench --publish             put what build/bench.json holds into docs/performance.md, docs/anomalies.md and
                                   docs/risk.md

Needs the cluster of hack/up, but for the parts plan, timing, anomalies and risk. Figures of speed are ratios to bare
Jobs of the same run on the same machine; they and all samples are in build/bench.json, which keeps the last measurement
of each part.
"""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/bench", epilog=EXAMPLES,
        description="Measure how fast runs are, what smart Schedules gain, and how good models are.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    told = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{told} (default: all)")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of the part start (default: 40)")
    parser.add_argument("--warm", type=int, default=25, help="warm runs in each of them (default: 25)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of the part throughput (default: 3)")
    parser.add_argument("--tasks", type=int, default=500, help="tasks of the part throughput (default: 500)")
    parser.add_argument("--jobs", type=int, default=20, help="rounds of the part job (default: 20)")
    parser.add_argument("--live", type=int, default=10_000, help="runs of the part crowd (default: 10000)")
    parser.add_argument("--kills", type=int, default=6, help="of the leader, in the part takeover (default: 6)")
    parser.add_argument("--seeds", type=int, default=8, help="of the part timing (default: 8)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="public data for anomalies and risk")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")
    parser.add_argument("--check", nargs="?", const=RESULT, type=Path, metavar="FILE",
                        help="compare with ranges.toml, and fail when a figure is out of its range")  # fmt: skip
    parser.add_argument("--publish", action="store_true", help="write figures and plots into docs/")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part is named {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.tasks % throughput.SHARDS or not 0 < options.tasks <= MAX_TASKS:
        parser.error(f"--tasks must be a multiple of {throughput.SHARDS}, at most {MAX_TASKS}: no run has more")
    return options


def main(arguments: Sequence[str]) -> int:
    """0 when everything was measured, and is within its range if that was asked; else 1."""
    options = _parse(arguments)
    try:
        if options.parts or not (options.check or options.publish):
            _measure(options)
        if options.publish:
            publish.publish(json.loads(RESULT.read_text()))
        return ranges.check(options.check) if options.check else 0
    except FileNotFoundError as error:
        say(f"hack/bench: {error.filename} does not exist; measure first")
        return 1
    except (ClusterError, ApiError, RuntimeError, TimeoutError) as error:
        say(f"hack/bench: {type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nhack/bench: interrupted")
        return 130


def _image() -> str:
    packages.check_go()
    if not paths.KUBECONFIG.exists() or not commands.succeeds(kubectl.command("get", "crd", RESOURCE)):
        raise ClusterError("No cluster with DAWG is running. Start one with hack/up.")
    with cluster_lock():
        chosen = engine.choose()
        image = chosen.build(BENCH)
        chosen.load([image])
    return image.reference


def _measure(options: argparse.Namespace) -> None:
    alone: dict[str, Callable[[argparse.Namespace, Step], Part]] = {
        "plan": _plans, "timing": _timing, "anomalies": _anomalies, "risk": _risk,
    }  # fmt: skip
    names = options.parts or list(PARTS)
    for name in names:
        if name in alone:
            with step(f"{name}: {PARTS[name]}") as current:
                part = alone[name](options, current)
            _keep(options, name, part, _circumstances())
    if on_cluster := [name for name in names if name not in alone]:
        asyncio.run(_measure_on_cluster(options, on_cluster, _image()))


async def _measure_on_cluster(options: argparse.Namespace, names: Sequence[str], image: str) -> None:
    measures: dict[str, Callable[[argparse.Namespace, Place, Step], Any]] = {
        "start": _starts, "throughput": _throughput, "job": _jobs, "crowd": _crowd,
        "takeover": _takeover, "edge": _edges,
    }  # fmt: skip
    for name in names:
        async with opened(image) as place:
            with step(f"{name}: {PARTS[name]}") as current:
                part: Part = await measures[name](options, place, current)
        kubernetes = json.loads(kubectl.run("get", "--raw", "/version"))["gitVersion"]
        _keep(options, name, part, {**_circumstances(), "kubernetes": kubernetes})


async def _starts(options: argparse.Namespace, place: Place, current: Step) -> Part:
    pool = await place.pool(executor="Process", minAgents=_AGENTS, maxAgents=_AGENTS, slots=_SLOTS)
    return await starts.compare(place, pool, options.rounds, options.warm, _note(current))


async def _throughput(options: argparse.Namespace, place: Place, current: Step) -> Part:
    pool = await place.pool(executor="Process", minAgents=_AGENTS, maxAgents=_AGENTS, slots=_SLOTS)
    return await throughput.compare(
        place, pool, _AGENTS * _SLOTS, options.repeat, options.tasks, 20, _note(current)
    )  # fmt: skip


async def _jobs(options: argparse.Namespace, place: Place, current: Step) -> Part:
    pool = await place.pool(executor="Job", minAgents=1, maxAgents=1, slots=_SLOTS)
    return await jobs.compare(place, pool, options.jobs, _note(current))


async def _crowd(options: argparse.Namespace, place: Place, current: Step) -> Part:
    crowded = await place.pool(executor="Process", minAgents=1, maxAgents=1, slots=1)
    free = await place.pool(executor="Process", minAgents=1, maxAgents=1, slots=1)
    return await crowd.measure(place, crowded, free, options.live, 20, 3, _note(current))


async def _edges(options: argparse.Namespace, place: Place, current: Step) -> Part:
    pool = await place.pool(executor="Process", minAgents=1, maxAgents=1, slots=_SLOTS)
    return await edges.measure(place, pool, options.repeat * 5, _note(current))


async def _takeover(options: argparse.Namespace, place: Place, current: Step) -> Part:
    pool = await place.pool(executor="Process", minAgents=1, maxAgents=1, slots=1)
    return await takeover.measure(place, pool, options.kills, _note(current))


def _plans(_: argparse.Namespace, current: Step) -> Part:
    return plans.measure(_note(current))


def _timing(options: argparse.Namespace, current: Step) -> Part:
    return timing.measure(options.seeds, _note(current))


def _anomalies(options: argparse.Namespace, current: Step) -> Part:
    if options.data is None:
        say("anomalies: no --data, so a few series are generated; how good the findings are, only real ones can tell")
        return anomalies.measure(labelled.generated(), (), "anomalies.generated", _note(current))
    series = labelled.read(options.data)
    return anomalies.measure(series, labelled.held_out(series), "anomalies", _note(current))


def _risk(options: argparse.Namespace, current: Step) -> Part:
    if options.data is None:
        say("risk: no --data, so a few commits are generated; how well risk is told, only real ones can tell")
        return risk.measure(commits.generated(), "risk.generated", _note(current))
    return risk.measure(commits.read(options.data), "risk", _note(current))


def _note(current: Step) -> Callable[[str], None]:
    def note(text: str) -> None:
        current.note = text

    return note


def _keep(options: argparse.Namespace, name: str, part: Part, circumstances: dict[str, Any]) -> None:
    """Put a part into the result, where the other parts keep what was measured before, and print it."""
    entry = {**circumstances, **part.wire()}
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({**known, name: entry}, indent=2))
    print(json.dumps({name: entry}, indent=2) if options.output == "json" else _table(part), flush=True)


def _table(part: Part) -> str:
    table = tables.aligned([part.headings(), *(figure.cells() for figure in part.figures)])
    return f"{table}\n\n{part.told}" if part.told else table


def told_command(arguments: Sequence[str]) -> str:
    """The command as others would give it, wherever they keep the data."""
    told = ["DIR" if before == "--data" else word for before, word in zip(("", *arguments), arguments, strict=False)]
    return " ".join(["hack/bench", *(re.sub("^--data=.*", "--data=DIR", word) for word in told)])


def _circumstances() -> dict[str, Any]:
    """Which machine, which version, which command, when."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    describe = ["git", "-C", str(paths.REPOSITORY), "describe", "--always", "--dirty"]
    version = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%d}", "command": told_command(sys.argv[1:]), "version": version,
        "machine": f"{len(models)} cores, {models[0] if models else platform.machine()}", "kernel": platform.release(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
