"""What usually changes together, from the file lists of commits: "you changed A, usually B changes too".

For files A and B, with each commit weighing half as much as one ``half_life`` commits newer:

    support = weight with both      confidence = support / weight with A      lift = confidence / share of B

These are the measures of association rules (Agrawal, Imieliński, Swami 1993; for versions Zimmermann et al. 2005,
Mining Version Histories to Guide Software Changes). Commits of more than ``most_files`` files say nothing: reformatting
and moves touch everything at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dawg_orchestrator.learning.changes import is_runnable_test

MOST_FILES = 30
HALF_LIFE = 300.0  # commits
MOST_PATHS = 200_000  # that are counted; later ones have no lift
LEAST_TIMES = 3
LEAST_CONFIDENCE = 0.5
LEAST_LIFT = 1.5
LEAST_CONFIDENCE_OF_TEST = 0.2


@dataclass(frozen=True, slots=True)
class Pair:
    """``partner`` changes in ``confidence`` of the commits that change ``path``; ``times`` without weights."""

    path: str
    partner: str
    times: int
    support: float
    confidence: float
    lift: float


@dataclass(frozen=True)
class CoChanges:
    """What the past says of the changed files. ``commits`` were counted, ``bulk`` ones were not."""

    pairs: tuple[Pair, ...]
    commits: int = 0
    bulk: int = 0

    def misses(self, changed: Collection[str], present: Collection[str] | None = None) -> list[Pair]:
        """Files that usually change too and did not, the surest first, each once; only those that are ``present``."""
        found: dict[str, Pair] = {}
        for pair in self.pairs:
            sure = pair.times >= LEAST_TIMES and pair.confidence >= LEAST_CONFIDENCE and pair.lift >= LEAST_LIFT
            if sure and pair.partner not in changed and (present is None or pair.partner in present):
                found.setdefault(pair.partner, pair)
        return list(found.values())

    def tests(self) -> dict[str, float]:
        """Test files that often change with these, with their confidence, the surest first."""
        found: dict[str, float] = {}
        for pair in self.pairs:
            often = pair.times > 1 and pair.confidence >= LEAST_CONFIDENCE_OF_TEST
            if often and is_runnable_test(pair.partner):
                found.setdefault(pair.partner, round(pair.confidence, 3))
        return found


def co_changes(
    commits: Iterable[Collection[str]], changed: Collection[str], most_files: int = MOST_FILES,
    half_life: float = HALF_LIFE,
) -> CoChanges:  # fmt: skip
    """Count over the files of each commit, newest first; the commit that is judged is not among them."""
    mine = frozenset(changed)
    alone: Counter[str] = Counter()
    times: dict[str, Counter[str]] = defaultdict(Counter)
    weights: dict[str, Counter[str]] = defaultdict(Counter)
    of_path: defaultdict[str, float] = defaultdict(float)
    total, counted, bulk = 0.0, 0, 0
    for age, listed in enumerate(commits):
        files = frozenset(listed)
        if len(files) > most_files:
            bulk += 1
            continue
        weight = 0.5 ** (age / half_life)
        total, counted = total + weight, counted + 1
        for path in files:
            if path in of_path or len(of_path) < MOST_PATHS:
                of_path[path] += weight
        for path in files & mine:
            alone[path] += 1
            for partner in files - {path}:
                times[path][partner] += 1
                weights[path][partner] += weight
    pairs = [
        Pair(path, partner, times[path][partner], support, support / of_path[path],
             support / of_path[path] / (of_path[partner] / total) if partner in of_path else 0.0)
        for path in times if path in of_path for partner, support in weights[path].items()
    ]  # fmt: skip
    pairs.sort(key=lambda pair: (-pair.confidence, -pair.support, pair.path, pair.partner))
    return CoChanges(tuple(pairs), counted, bulk)


def failing_tests(
    history: Iterable[tuple[Collection[str], Collection[str]]], changed: Collection[str], half_life: float = HALF_LIFE
) -> dict[str, float]:
    """Tests that fail when these paths change: their share of such commits, the highest first.

    ``history`` has for each commit, newest first, its files and the tests that failed on it.
    """
    mine = frozenset(changed)
    total = 0.0
    failed: defaultdict[str, float] = defaultdict(float)
    for age, (files, tests) in enumerate(history):
        if mine.isdisjoint(files):
            continue
        weight = 0.5 ** (age / half_life)
        total += weight
        for test in set(tests):
            failed[test] += weight
    shares = ((test, round(weight / total, 3)) for test, weight in failed.items())
    return dict(sorted(shares, key=lambda one: (-one[1], one[0])))
