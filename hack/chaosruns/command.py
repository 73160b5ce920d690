"""The command `hack/chaos`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chaosruns import place, plants, trouble
from chaosruns.audit import AuditLog, BodyMissing
from chaosruns.campaign import Campaign, Outcome
from chaosruns.history import Findings
from chaosruns.journal import Journal
from chaosruns.load import Loads, create_pools
from chaosruns.place import Controllers
from chaosruns.points import Point, Queue, points_at
from chaosruns.proxy import Proxy
from chaosruns.trouble import Scene
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import ClusterError as ApiError
from localcluster import commands, kubectl, network, paths
from localcluster.errors import ClusterError
from localcluster.install import RESOURCE
from localcluster.progress import say, step

RESULT = paths.REPOSITORY / "build" / "chaos.json"
_SHORT_SECONDS = 30.0  # seconds of faults; what comes before and after is not bounded
_SHORT_POINTS = (
    Point("kill-before", "controller replace testruns/status", 1), Point("kill-after", "controller create jobs", 1),
    Point("lose-answer", "controller list testruns", 1), Point("409", "controller replace agentpools/status", 1),
    Point("429", "elector replace leases", 1), Point("gone", "watcher event testruns", 1),
    Point("duplicate", "controller create tokenreviews", 1), Point("drop", "watcher watch jobs", 1),
    Point("freeze-leader"), Point("storm-429"), Point("kill-agent"),
)  # fmt: skip
_TROUBLE_REPEATED = 2
_GOAL_SECONDS = 10.0
EXAMPLES = """\
examples:
  hack/chaos                        every point that is not done yet; about half an hour
  hack/chaos --minutes 10           go on for ten minutes; the next call goes on from there
  hack/chaos --short                some points, in a minute
  hack/chaos --only freeze-leader   points whose name contains this, done or not
  hack/chaos --plant keep-jobs      build a known fault in; the exit code is 0 when it is reported
  hack/chaos --list
  hack/chaos --simulate --help      the same promises in simulated time, without a cluster

Needs the cluster of hack/up where that is not kind, as root. Without --short, --only and --plant, what was
tried is kept in build/chaos.json; --anew forgets it.
Exit code 0: everything held; 1: something did not, or went wrong.
"""


@dataclass
class Book:
    """What was tried so far, kept between calls."""

    product: str
    done: dict[str, float] = field(default_factory=dict)  # seconds until all was well, by point
    unreached: list[str] = field(default_factory=list)
    loads: int = 0
    findings: Findings = field(default_factory=Findings)

    def note(self, outcome: Outcome) -> None:
        """Take a load in."""
        self.loads += 1
        self.findings.add(outcome.findings)
        for point in outcome.struck:
            self.done[str(point)] = outcome.seconds

    @property
    def slowest(self) -> tuple[float, str]:
        """The longest time until all was well, and after what."""
        return max(((seconds, name) for name, seconds in self.done.items()), default=(0.0, "nothing"))

    def holds(self) -> bool:
        """Whether everything held that must."""
        return not self.findings.broken() and self.slowest[0] <= _GOAL_SECONDS

    def wire(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "points": len(self.done), "slowest": self.slowest, "holds": self.holds()}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/chaos", description="Break everything around the product, and see whether a verdict is lost.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--short", action="store_true", help="some points, in a minute")
    named = ", ".join(sorted(plants.PLANTS))
    how.add_argument("--plant", choices=sorted(plants.PLANTS), metavar="FAULT", help=f"build a fault in: {named}")
    how.add_argument("--list", action="store_true", help="name faults and plants, and try none")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="points whose name contains this")
    parser.add_argument("--anew", action="store_true", help="forget what was tried before")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """0 when everything held (with --plant: when the fault was reported), else 1."""
    options = _parse(arguments)
    if options.list:
        return _list()
    if options.short and not network.exists():
        say("hack/chaos: nothing was tried: it needs the cluster that hack/up builds itself, and this is kind")
        return 0
    # Whoever ends this command early wants nothing to go on in the cluster.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _check_cluster()
        book = asyncio.run(_try(options))
    except (ClusterError, ApiError, BodyMissing, TimeoutError) as error:
        say(f"hack/chaos: {type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nhack/chaos: interrupted; the next call goes on from here")
        return 130
    print(json.dumps(book.wire(), indent=2) if options.output == "json" else _table(book))
    if options.plant:
        return 0 if book.findings.broken() else 1
    return 0 if book.holds() else 1


def _list() -> int:
    for name, planted in plants.PLANTS.items():
        print(f"plant    {name:22} {planted}")
    for name, made in trouble.TROUBLES.items():
        print(f"trouble  {name:22} {(made.make.__doc__ or '').strip()}")
    return 0


def _check_cluster() -> None:
    if not network.exists():
        raise ClusterError("It needs the cluster that hack/up builds itself, not kind: it kills processes on the node.")
    if not commands.succeeds(kubectl.command("get", "crd", RESOURCE)):
        raise ClusterError("No cluster with DAWG is running. Start one with hack/up.")


async def _try(options: argparse.Namespace) -> Book:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None  # noqa: S101
    loop.add_signal_handler(signal.SIGTERM, this.cancel)
    trouble.heal()
    journal = Journal()
    controllers: list[Controllers] = []

    async def kill(address: str) -> None:
        for one in controllers:
            await one.kill(address)

    proxy = Proxy(kill)
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster(find_credentials(), user_agent="dawg-chaos"))
        await stack.enter_async_context(journal.listening())
        await stack.enter_async_context(proxy.listening())
        audit = AuditLog(place.NAMESPACE)
        stack.callback(audit.close)
        with step("install the product under test"):
            release = place.installed(cluster, proxy.port, options.plant)
            controllers.append(await stack.enter_async_context(release))
        stack.callback(trouble.heal)
        stack.callback(controllers[0].thaw)
        image = await asyncio.to_thread(place.test_image)
        with step("start its agents"):
            await create_pools(cluster, image)
        loads = Loads(cluster, journal, image)
        return await _go_on(options, Campaign(Scene(cluster, controllers[0], proxy), loads, journal, audit))


async def _go_on(options: argparse.Namespace, campaign: Campaign) -> Book:
    book = Book(place.product())
    if options.plant:
        found = Queue(Point(name, "", number) for number, name in enumerate(plants.SHOWN_BY[options.plant], 1))
        await _strike_all(campaign, book, found, 300, f"plant {options.plant}")
        return book
    if options.short:
        await _strike_all(campaign, book, Queue(_SHORT_POINTS), _SHORT_SECONDS, "break some things")
        return book
    if not options.anew and not options.only:
        book = _kept(book)
    seconds = options.minutes * 60
    with step("record a load without faults"):
        calls = await campaign.record()
    repeated = [Point(name, "", number) for number in range(1, _TROUBLE_REPEATED + 1) for name in trouble.TROUBLES]
    skipped = set() if options.only else {*book.done, *book.unreached}
    chosen = [
        point for point in [*points_at(calls), *repeated]
        if all(text in str(point) for text in options.only) and str(point) not in skipped
    ]  # fmt: skip
    keep = _keep if not options.only else None
    await _strike_all(campaign, book, Queue(chosen), seconds, f"break things at {len(chosen)} points", keep)
    return book


async def _strike_all(
    campaign: Campaign, book: Book, queue: Queue, seconds: float, title: str, keep: Callable[[Book], None] | None = None
) -> None:
    """One load after the other until no point waits or time is up."""
    deadline = time.monotonic() + seconds
    with step(title) as current:
        while (queue or campaign.standing) and time.monotonic() < deadline:
            points = queue.next(campaign.standing)
            outcome = await campaign.strike(points)
            book.note(outcome)
            book.unreached = sorted({*book.unreached, *map(str, campaign.unreached)})
            _tell(outcome)
            current.note = f"{len(book.done)} struck, {len(queue)} wait, slowest {book.slowest[0]:.1f} s"
            if keep is not None:
                keep(book)


def _tell(outcome: Outcome) -> None:
    broken = outcome.findings.broken()
    if not broken and outcome.seconds <= _GOAL_SECONDS:
        return
    say(f"\nafter {outcome.seconds:.1f} s, under: {'; '.join(map(str, outcome.struck))}")
    for kind, sentences in broken.items():
        for sentence in sentences:
            say(f"  {kind}: {sentence}")


def _keep(book: Book) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(book.wire(), indent=2))


def _kept(fresh: Book) -> Book:
    """What an earlier call has tried of the same product."""
    try:
        known = json.loads(RESULT.read_text())
        found = Findings(**known["findings"])
    except (OSError, ValueError, TypeError, KeyError):
        return fresh
    if known.get("product") != fresh.product:
        return fresh
    return Book(fresh.product, known["done"], known["unreached"], known["loads"], found)


def _table(book: Book) -> str:
    found = book.findings
    seconds, after = book.slowest
    rows = [
        ("points tried", str(len(book.done))), ("loads", str(book.loads)), ("tasks", str(found.tasks)),
        ("lost", str(len(found.lost))), ("doubled", str(len(found.doubled))), ("orphans", str(len(found.orphans))),
        ("exclusive overlaps", str(len(found.overlaps))), ("wrong verdicts", str(len(found.wrong))),
        ("tests that ran again", str(found.ran_again)),
        ("slowest convergence", f"{seconds:.1f} s after {after}"),
        ("points not reached", str(len(book.unreached))),
    ]  # fmt: skip
    return "\n".join(f"{name:22}{value}" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
