"""What the tests of a repository did lately, and what follows for the next run: what to run first, where, how long.

    records (of a file, or of a class where reports name no files) ──► of which test file ──► order, suites, time

A test's rate is its failures of 1 + runs, so that one failure in one run is no certainty. Flaky is no failure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from dawg_orchestrator.resources.protocol import TestRecord

MOST_SUITES = 20
_ALIKE = 2  # parts of a class's name that must be those of a path, unless one of them has no more
_SUFFIXES = frozenset(
    {"py", "js", "ts", "jsx", "tsx", "mjs", "cjs", "mts", "cts", "go", "java", "kt", "rb", "rs", "cs", "php"}
)


def failure_rate(runs: int, failures: int) -> float:
    """How likely a test is to fail next time, by what it did."""
    return failures / (runs + 1)


def rate_of(record: TestRecord) -> float:
    """Of all Workflows in which it ran."""
    return failure_rate(record.runs, record.failures)


def records_of(paths: Iterable[str], records: Iterable[TestRecord]) -> dict[str, TestRecord]:
    """The record of each path that has one. A report may name a file from a folder below or above, or only a class."""
    by_last: dict[str, list[TestRecord]] = defaultdict(list)
    for record in records:
        by_last[_last(record.place)].append(record)
    found = {}
    for path in paths:
        keys = dict.fromkeys((_name(path), _stem(path), _name(_folder(path))))
        fitting = [record for key in keys for record in by_last.get(key, ()) if _is_of(record.place, path)]
        if fitting:
            found[path] = max(fitting, key=lambda record: (len(record.place), record.place))
    return found


def suites_of(tests: Iterable[str], records: Mapping[str, TestRecord], most: int = MOST_SUITES) -> list[str]:
    """The Workflows in which these tests ran, those first that are most likely to fail by them.

    Of two that never failed the one with more of these tests comes first.
    """
    passing: dict[str, float] = defaultdict(lambda: 1.0)
    counts: dict[str, int] = defaultdict(int)
    for test in tests:
        if test in records:
            for workflow, (runs, failures) in records[test].workflows.items():
                passing[workflow] *= 1 - failure_rate(runs, failures)
                counts[workflow] += 1
    return sorted(passing, key=lambda name: (passing[name], -counts[name], name))[:most]


def _is_of(place: str, path: str) -> bool:
    """Whether what a report names so can be this file."""
    if _is_path(place):
        package = path.endswith("_test.go") and _end_alike(place, _folder(path))  # Go's reports name packages
        return package or _end_alike(place, path)
    steps = [*_folder(path).split("/"), _stem(path)]
    alike = 0
    for part, step in zip(reversed(_module(place)), reversed(steps), strict=False):
        if part != step:
            break
        alike += 1
    return alike >= min(_ALIKE, len(_module(place)), len(steps))


def _is_path(place: str) -> bool:
    return "/" in place or place.rpartition(".")[2] in _SUFFIXES


def _end_alike(one: str, other: str) -> bool:
    return bool(one and other) and (f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}"))


def _last(place: str) -> str:
    return _name(place) if _is_path(place) else _module(place)[-1]


def _module(place: str) -> Sequence[str]:
    """A class's name without the classes that stand in a module, as pytest has them: tests.test_cart.TestCart."""
    parts = place.split(".")
    for end in range(len(parts), 0, -1):
        if parts[end - 1].startswith("test_") or parts[end - 1].endswith("_test"):
            return parts[:end]
    return parts


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return _name(path).partition(".")[0]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
