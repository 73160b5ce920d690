"""Many histories on all cores: how many, what was broken, how often each kind of fault was met."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from simulation.faults import Fault
from simulation.planted import planted
from simulation.world import Outcome, live

_CHUNK = 8
_CHUNKS_OF_A_WORKER = 40  # leaders freeze what they have read, for good, so that each history leaves its worker larger
_NOTHING_IS_LOGGED = 50
_kept = contextlib.ExitStack()  # what is planted stays for the life of a worker


@dataclass
class Summary:
    """Of many histories; ``met`` counts the histories in which a kind of fault happened."""

    histories: int = 0
    events: int = 0
    seconds: float = 0.0
    fewest_events: int | None = None
    slowest_rest: float = 0.0
    met: Counter[Fault] = field(default_factory=Counter)
    broken: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.histories += 1
        self.events += outcome.events
        self.fewest_events = min(self.fewest_events or outcome.events, outcome.events)
        self.slowest_rest = max(self.slowest_rest, outcome.rested_after)
        self.met.update(set(outcome.faults))
        if outcome.broken:
            self.broken.append(outcome)


def many(
    seeds: Iterable[int],
    *,
    seconds: float = float("inf"),
    fault: str | None = None,
    broken_at_most: int = 1,
    told: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Live the histories of these seeds, for so many seconds at most, until so many have broken a promise."""
    summary, began = Summary(), time.monotonic()
    workers = multiprocessing.get_context("fork").Pool(os.cpu_count() or 1, _begin, (fault,), _CHUNKS_OF_A_WORKER)
    with workers as pool:
        for outcome in pool.imap_unordered(live, seeds, chunksize=_CHUNK):
            summary.add(outcome)
            summary.seconds = time.monotonic() - began
            told(summary)
            if len(summary.broken) >= broken_at_most or summary.seconds >= seconds:
                break
    return summary


def _begin(fault: str | None) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_NOTHING_IS_LOGGED))
    if fault is not None:
        _kept.enter_context(planted(fault))
