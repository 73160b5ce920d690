"""How long tasks take, learnt from those that ended well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MAX_BYTES = 8 * 1024 * 1024  # of the snapshot that the controller fetches, as JSON
_ENTRY_BYTES = 48  # two numbers, quotes and commas
SAMPLES_PER_TASK = 200  # the newest ones; older ones say less about the code of today

Durations = dict[str, tuple[float, float]]


def duration_key(namespace: str, task: str, image: str | None) -> str:
    """By what durations are kept: the same task in the same image. No part can contain a space."""
    return f"{namespace} {task} {image or '-'}"


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """The value below which this fraction of sorted values lies, between two values by straight line."""
    if not ordered:
        raise ValueError("no values have no quantile")
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def learn_durations(samples: Iterable[tuple[str, float]], max_bytes: int = MAX_BYTES) -> Durations:
    """(p50, p90) in seconds by key, from (key, seconds) pairs, newest first; the newest keys have room first."""
    by_key: dict[str, list[float]] = {}
    used = 0
    for key, seconds in samples:
        values = by_key.get(key)
        if values is None:
            used += len(key.encode()) + _ENTRY_BYTES
            if used > max_bytes:
                break
            values = by_key[key] = []
        if len(values) < SAMPLES_PER_TASK:
            values.append(seconds)
    return {
        key: (round(quantile(values, 0.5), 3), round(quantile(values, 0.9), 3))
        for key, values in ((key, sorted(values)) for key, values in by_key.items())
    }
