"""Which files a change reaches: those that import what changed, and those that import them, nearest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from dawg_orchestrator.learning.changes import is_runnable_test

MOST_REACHED = 20_000  # files
DEEPEST = 12  # steps from a change; what is farther is hardly moved by it


@dataclass(frozen=True)
class Reached:
    """Files by how many imports lie between them and the change: 0 changed itself. ``cut``: there are more."""

    distances: Mapping[str, int]
    cut: bool = False

    @property
    def tests(self) -> dict[str, int]:
        """The test files among them, nearest first."""
        found = ((path, distance) for path, distance in self.distances.items() if is_runnable_test(path))
        return dict(sorted(found, key=lambda one: (one[1], one[0])))


@dataclass(frozen=True)
class ImportGraph:
    """Imports between the files of one commit. ``unread``: files whose imports nobody knows."""

    imports: Mapping[str, Collection[str]]
    unread: int = 0
    _importers: dict[str, list[str]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for path, imported in self.imports.items():
            for other in imported:
                self._importers.setdefault(other, []).append(path)

    def importers(self, path: str) -> list[str]:
        """The files that import this one themselves."""
        return sorted(self._importers.get(path, ()))

    def reached(self, changed: Iterable[str], most: int = MOST_REACHED, deepest: int = DEEPEST) -> Reached:
        """The changed files and all that depend on them, breadth first; cycles end where they began."""
        distances = dict.fromkeys(changed, 0)
        waiting = deque(distances)
        cut = False
        while waiting:
            path = waiting.popleft()
            importers = self._importers.get(path, ())
            if distances[path] >= deepest:
                cut = cut or any(other not in distances for other in importers)
                continue
            for other in importers:
                if other in distances:
                    continue
                if len(distances) >= most:
                    return Reached(distances, cut=True)
                distances[other] = distances[path] + 1
                waiting.append(other)
        return Reached(distances, cut)

    def dependents(self, path: str) -> int:
        """How many other files depend on this one, near or far."""
        return sum(not other.endswith("/") for other in self.reached([path]).distances) - 1

    @property
    def files(self) -> int:
        """How many files there are; what ends with / is no file, but stands for those of a package."""
        return sum(not path.endswith("/") for path in self.imports)
