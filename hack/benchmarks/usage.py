"""What the controller costs: requests from the audit log by user agent, CPU and memory from /proc."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import paths

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_TICKS = os.sysconf("SC_CLK_TCK")
_ROLE = "dawg_orchestrator\0controller"


@dataclass
class Usage:
    """From the beginning of a block to its end."""

    writes: Counter[str] = field(default_factory=Counter)  # by "agent verb resource"
    cpu_seconds: float = 0.0
    rss_mib: float = 0.0


@contextmanager
def measured() -> Iterator[Usage]:
    """Fill a Usage in for as long as the block lasts."""
    usage = Usage()
    offset = paths.AUDIT_LOG.stat().st_size if paths.AUDIT_LOG.exists() else 0
    before = _cpu_seconds()
    yield usage
    usage.cpu_seconds = _cpu_seconds() - before
    usage.rss_mib = rss_mib()
    usage.writes = _writes_since(offset)


def controller() -> Path | None:
    """The /proc folder of the first controller; None where it cannot be seen from here (kind)."""
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                line = (place / "cmdline").read_text()
            except OSError:
                continue
            if _ROLE in line:
                return place
    return None


def rss_mib() -> float:
    """Resident memory of the controller in MiB; 0 where it cannot be seen."""
    place = controller()
    if place is None:
        return 0.0
    line = next(line for line in (place / "status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _cpu_seconds() -> float:
    place = controller()
    if place is None:
        return 0.0
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _writes_since(offset: int) -> Counter[str]:
    """What the apiserver has written since then; a log that was rotated meanwhile counts from its beginning."""
    found: Counter[str] = Counter()
    if not paths.AUDIT_LOG.exists():
        return found
    with paths.AUDIT_LOG.open("rb") as log:
        log.seek(offset if offset <= paths.AUDIT_LOG.stat().st_size else 0)
        for line in log:
            event = json.loads(line)
            reference = event.get("objectRef") or {}
            if event["verb"] in _WRITES and event.get("responseStatus", {}).get("code", 0) < 300:
                agent = event.get("userAgent", "").split("/")[0].split(" ")[0]
                sub = f"/{reference['subresource']}" if reference.get("subresource") else ""
                found[f"{agent} {event['verb']} {reference.get('resource', '')}{sub}"] += 1
    return found
