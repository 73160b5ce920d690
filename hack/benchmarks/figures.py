"""From samples to figures: percentiles, ratios, and how sure one can be of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

RESAMPLES = 1000
SEED = 20260101


@dataclass(frozen=True)
class Spread:
    """Percentiles of samples, in the samples' unit."""

    count: int
    p50: float
    p95: float
    p99: float
    worst: float

    def __str__(self) -> str:
        return f"{self.p50:.1f} / {self.p95:.1f} / {self.p99:.1f}"


@dataclass(frozen=True)
class Ratio:
    """How many times one is the other, with the 95 % interval of a bootstrap over both arms."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.value)} ({_short(self.low)} to {_short(self.high)})"


@dataclass(frozen=True)
class Figure:
    """A line of the table. ``value`` is what ``goal`` and the range file speak of; ``by_floor`` is 1 at the floor."""

    key: str
    name: str
    measured: str
    compared: str  # what it is measured against, in the same unit
    value: float
    told: str  # the value as people read it, with its interval
    goal: str
    floor: str = ""
    by_floor: float | None = None

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        by_floor = "" if self.by_floor is None else f"{self.by_floor:.2f}"
        return self.name, self.measured, self.compared, self.told, self.goal, self.floor, by_floor


@dataclass(frozen=True)
class Part:
    """All that one part of the benchmark has found."""

    figures: list[Figure]
    samples: dict[str, list[float]] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    told: str = ""  # what people may want to know beside the table
    details: dict[str, Any] = field(default_factory=dict)  # what only this part has; for JSON
    compared_with: str = "bare Job"
    floor: str = "floor"

    def wire(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "figures": [asdict(figure) for figure in self.figures], "samples": self.samples, "usage": self.usage,
            "details": self.details, "headings": self.headings(),
        }  # fmt: skip

    def headings(self) -> tuple[str, ...]:
        """Of its table."""
        return "figure", "measured", self.compared_with, "value (95 %)", "goal", self.floor, f"by {self.floor}"


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of all does not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(samples: Sequence[float]) -> Spread:
    """The percentiles that are reported."""
    p50, p95, p99 = (percentile(samples, share) for share in (0.5, 0.95, 0.99))
    return Spread(len(samples), p50, p95, p99, max(samples))


def median(samples: Sequence[float]) -> float:
    """The middle one."""
    return percentile(samples, 0.5)


def ratio(first: Sequence[float], second: Sequence[float], of_second: float = 0.5) -> Ratio:
    """The median of the first arm by a percentile of the second."""
    return _bootstrap(lambda a, b: percentile(a, 0.5) / percentile(b, of_second), first, second)


def mean_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """The mean of the first arm by that of the second, whose samples belong together one by one."""
    pairs = list(zip(first, second, strict=True))
    return _bootstrap(lambda some: sum(a for a, _ in some) / sum(b for _, b in some), pairs)


def _bootstrap(figure: Callable[..., float], *arms: Sequence[Any]) -> Ratio:
    """``figure`` gets the arms, each drawn anew by itself."""
    chance = random.Random(SEED)  # noqa: S311 - the same samples always give the same interval
    found = sorted(figure(*(chance.choices(arm, k=len(arm)) for arm in arms)) for _ in range(RESAMPLES))
    return Ratio(figure(*arms), found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1])


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
