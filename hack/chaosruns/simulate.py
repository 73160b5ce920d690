"""The command `hack/chaos --simulate`: histories of the core in their own time, instead of faults on a cluster."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from localcluster import paths
from localcluster.progress import say, step

sys.path.insert(0, str(paths.REPOSITORY / "tests"))  # the simulation is a tier of the tests

from simulation.faults import Fault
from simulation.many import Summary, many
from simulation.planted import PLANTED
from simulation.world import Outcome, live

EXAMPLES = """\
examples:
  hack/chaos --simulate                            100,000 histories on all cores; needs no cluster
  hack/chaos --simulate 5000 --first 200000        other ones
  hack/chaos --simulate --seed 5785                one history, told event by event
  hack/chaos --simulate 5000 --plant no-fencing    build a known fault in; the exit code is 0 when it is found

Exit code 0: no promise was broken; 1: one was, and the seed that shows it is named.
"""
_MANY = 100_000
_SHOWN = 5


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/chaos", description="Simulate the core under faults, and check every promise at every event.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--simulate", type=int, nargs="?", const=_MANY, metavar="N", help="so many histories")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of their seeds (default: 0)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", type=int, help="live this one history and tell it")
    named = ", ".join(sorted(PLANTED))
    parser.add_argument("--plant", choices=sorted(PLANTED), metavar="FAULT", help=f"build a fault in: {named}")
    parser.add_argument("--list", action="store_true", help="name faults and plants, and simulate nothing")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """0 when no promise was broken (with --plant: when one was), else 1."""
    options = _parse(arguments)
    if options.list:
        return _list()
    if options.seed is not None:
        return _tell(options.seed)
    seeds = range(options.first, options.first + options.simulate)
    try:
        with step(f"live {len(seeds)} histories") as current:

            def note(summary: Summary) -> None:
                seeds_of_them = f": {', '.join(str(one.seed) for one in summary.broken[:5])}" if summary.broken else ""
                current.note = f"{summary.histories} lived, {len(summary.broken)} broke a promise{seeds_of_them}"

            at_most = 1 if options.plant else _SHOWN
            lived = many(
                seeds, seconds=options.minutes * 60, fault=options.plant, broken_at_most=at_most, told=note
            )  # fmt: skip
    except KeyboardInterrupt:
        say("\nhack/chaos: interrupted")
        return 130
    print(json.dumps(_wire(lived), indent=2) if options.output == "json" else _table(lived))
    return int(bool(lived.broken) != bool(options.plant))


def _list() -> int:
    for name, (told, _) in PLANTED.items():
        print(f"plant    {name:28} {told}")
    for fault in Fault:
        print(f"fault    {_name(fault):28} {fault.value}")
    return 0


def _tell(seed: int) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    outcome = live(seed, print)
    for broken in outcome.broken:
        print(f"broken: {broken}")
    print(f"{outcome.events} events, at rest {outcome.rested_after:.1f} s after the last fault")
    return int(bool(outcome.broken))


def _wire(lived: Summary) -> dict[str, Any]:
    return {
        "histories": lived.histories, "events": lived.events, "seconds": lived.seconds,
        "fewestEvents": lived.fewest_events, "slowestRest": lived.slowest_rest,
        "met": {_name(fault): lived.met[fault] / max(1, lived.histories) for fault in Fault},
        "broken": [{"seed": outcome.seed, "what": list(outcome.broken)} for outcome in lived.broken],
    }  # fmt: skip


def _table(lived: Summary) -> str:
    share = {_name(fault): lived.met[fault] / max(1, lived.histories) for fault in Fault}
    rarest = min(share, key=share.__getitem__)
    rows = [
        ("histories", f"{lived.histories}, of {lived.fewest_events} events or more"),
        ("events", f"{lived.events}, {lived.events / max(lived.seconds, 0.001) * 60:,.0f} a minute"),
        ("slowest rest", f"{lived.slowest_rest:.1f} simulated seconds after the last fault"),
        ("rarest fault", f"{rarest}, in {share[rarest]:.1%} of the histories"),
        ("promises broken", str(len(lived.broken))),
        *(("", _why(outcome)) for outcome in lived.broken),
    ]
    return "\n".join(f"{name:18}{value}" for name, value in rows)


def _why(outcome: Outcome) -> str:
    return f"seed {outcome.seed}: {outcome.broken[0][:300]}"


def _name(fault: Fault) -> str:
    return str(fault.name).lower().replace("_", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
