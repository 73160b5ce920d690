"""What finds anomalies: the function that the product calls, and what it must be better than. Each scores values."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence

from benchmarks.labelled import Series
from dawg_orchestrator.learning.anomalies import SeriesState, observe

_LEAST_VALUES = 30
_EXACT = 10**6  # values in whole millionths, so that sums over a moving window have no rounding that grows


def model_scores(series: Series) -> list[float]:
    """By what the product calls; above 1 is an anomaly."""
    state: SeriesState | None = None
    scores = []
    for time, value in zip(series.times, series.values, strict=True):
        state, finding = observe(state, time, value)
        scores.append(finding.score)
    return scores


def z_scores(series: Series, window: int) -> list[float]:
    """How many standard deviations a value lies from the mean of the ``window`` values before it."""
    scores: list[float] = []
    held: deque[int] = deque()
    total = squares = 0
    for value in series.values:
        exact = round(value * _EXACT)
        scores.append(_z_score(exact, len(held), total, squares))
        held.append(exact)
        total, squares = total + exact, squares + exact * exact
        if len(held) > window:
            oldest = held.popleft()
            total, squares = total - oldest, squares - oldest * oldest
    return scores


def random_alarms(series: Sequence[Series], count: int, seed: int) -> dict[str, list[int]]:
    """So many alarms anywhere in what counts of all series."""
    places = [(one.name, number) for one in series for number in range(one.begin, len(one.values))]
    chance = random.Random(seed)  # noqa: S311 - the same places for the same seed
    found: dict[str, list[int]] = {one.name: [] for one in series}
    for name, number in sorted(chance.sample(places, count)):
        found[name].append(number)
    return found


def _z_score(value: int, count: int, total: int, squares: int) -> float:
    if count < _LEAST_VALUES:
        return 0.0
    distance, spread = abs(count * value - total), count * squares - total * total
    if spread == 0:
        return math.inf if distance else 0.0
    return distance / math.sqrt(spread)
