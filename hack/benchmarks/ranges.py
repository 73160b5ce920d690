"""Whether figures are as good as they have been: a file of ranges, with a margin for machines' moods."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

RANGES = Path(__file__).with_name("ranges.toml")


def check(result: Path) -> int:
    """Print each figure that is out of its range, or was not measured; 1 when there is any."""
    figures = {
        figure["key"]: figure["value"] for part in json.loads(result.read_text()).values() for figure in part["figures"]
    }
    faults = out_of_range(figures, tomllib.loads(RANGES.read_text()))
    print("\n".join(faults) or f"{len(figures)} figures are within their ranges")
    return 1 if faults else 0


def out_of_range(figures: dict[str, float], ranges: dict[str, Any]) -> list[str]:
    """A sentence for each range that is not kept; what was not measured is not judged, what has no range is a fault."""
    faults = [f"{key} has no range in {RANGES.name}" for key in figures if key not in ranges]
    for key, value in figures.items():
        allowed = ranges.get(key, {})
        least, most = allowed.get("least"), allowed.get("most")
        if least is not None and value < least:
            faults.append(f"{key} is {value:.2f}, at least {least} is expected")
        if most is not None and value > most:
            faults.append(f"{key} is {value:.2f}, at most {most} is expected")
    return faults
