"""Series of metrics whose anomalies are known: read from a folder, or generated."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

FOLDER = "metric-anomalies"
LABELS = "combined_windows.json"
_SEED = 20260101
_BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
_STEP = timedelta(minutes=5)
_DAY = 288
_DAYS = 14

Window = tuple[datetime, datetime]


@dataclass(frozen=True)
class Series:
    """Values in their order, and the windows in which something was out of the ordinary."""

    name: str
    times: Sequence[datetime]
    values: Sequence[float]
    windows: Sequence[Window]

    @property
    def begin(self) -> int:
        """The first value that counts: detectors may learn from 15 % of a series, 750 values at most."""
        return min(int(0.15 * len(self.values)), 750)


def read(folder: Path) -> list[Series]:
    """As the Numenta Anomaly Benchmark has them; ``folder`` may also be the one above."""
    within = folder if (folder / LABELS).exists() else folder / FOLDER
    if not (within / LABELS).exists():
        raise RuntimeError(f"neither {folder} nor {within} has a file {LABELS}")
    labels = json.loads((within / LABELS).read_text())
    return [_read(within, name, windows) for name, windows in sorted(labels.items())]


def held_out(series: Sequence[Series]) -> set[str]:
    """Every other name in the order of their SHA-256: what no parameter was chosen on."""
    names = sorted((one.name for one in series), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(names[1::2])


def generated() -> list[Series]:
    """Two weeks each, one value in about five minutes, some missing; the same every time."""
    kinds: dict[str, Callable[[int, random.Random], float]] = {
        "calm": lambda _, chance: chance.gauss(100, 3),
        "constant": lambda number, _: 5.0 if number < 10 * _DAY else 5.2,
        "daily": _daily,
        "daily-idle": lambda number, chance: chance.gauss(100, 2) if _is_tenth(number) else _daily(number, chance),
        "level": lambda number, chance: chance.gauss(100 if number < 10 * _DAY else 130, 3),
        "spiky": lambda number, chance: 400.0 if number == 10 * _DAY + 50 else chance.expovariate(1 / 10),
        "spiky-calm": lambda _, chance: chance.lognormvariate(0, 0.8),
        "wavering": lambda number, chance: chance.gauss(100 if not _is_tenth(number) else 110, 3),
    }
    return [_generate(name, value) for name, value in kinds.items()]


def _read(folder: Path, name: str, windows: Sequence[Sequence[str]]) -> Series:
    with (folder / name).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return Series(
        name,
        [_time(row["timestamp"]) for row in rows],
        [float(row["value"]) for row in rows],
        [(_time(begin), _time(end)) for begin, end in windows],
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _daily(number: int, chance: random.Random) -> float:
    return chance.gauss(180 if 8 <= number // 12 % 24 < 18 else 100, 2)


def _is_tenth(number: int) -> bool:
    return number // _DAY == 10


def _generate(name: str, value: Callable[[int, random.Random], float]) -> Series:
    chance = random.Random(f"{_SEED} {name}")  # noqa: S311 - the same series each time
    numbers = [number for number in range(_DAYS * _DAY) if chance.random() > 0.02]
    times = [_BEGIN + number * _STEP + timedelta(seconds=chance.uniform(0, 30)) for number in numbers]
    begin = _BEGIN + 10 * _DAY * _STEP
    windows = [] if name in {"calm", "daily", "spiky-calm"} else [(begin, begin + timedelta(days=1))]
    return Series(name, times, [value(number, chance) for number in numbers], windows)
