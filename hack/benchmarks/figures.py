"""From samples to figures: percentiles, ratios, and how sure one can be of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

    def wire(self) -> dict[str, float]:
        """For JSON."""
        return {"n": self.count, "p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.worst}


@dataclass(frozen=True)
class Ratio:
    """How many times faster, with the 95 % interval of a bootstrap over both arms."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"

    def wire(self) -> dict[str, float]:
        """For JSON."""
        return {"ratio": self.value, "low": self.low, "high": self.high}


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of all does not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(samples: Sequence[float]) -> Spread:
    """The percentiles that are reported."""
    p50, p95, p99 = (percentile(samples, share) for share in (0.5, 0.95, 0.99))
    return Spread(len(samples), p50, p95, p99, max(samples))


def ratio(slow: Sequence[float], fast: Sequence[float], of_fast: float = 0.5) -> Ratio:
    """The median of the slow arm by a percentile of the fast one."""
    return _bootstrap(slow, fast, lambda a, b: percentile(a, 0.5) / percentile(b, of_fast))


def _bootstrap(
    first: Sequence[float], second: Sequence[float], figure: Callable[[Sequence[float], Sequence[float]], float]
) -> Ratio:
    chance = random.Random(SEED)  # noqa: S311 - the same samples always give the same interval
    found = sorted(
        figure(chance.choices(first, k=len(first)), chance.choices(second, k=len(second))) for _ in range(RESAMPLES)
    )
    return Ratio(figure(first, second), found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1])
