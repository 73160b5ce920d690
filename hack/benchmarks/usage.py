"""What the whole costs: writes from the audit log by user agent, CPU and memory of each part from /proc."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster import paths

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_TICKS = os.sysconf("SC_CLK_TCK")
CONTROLLER = "controller"
# What a process' command line shows of the part that it is; the first that fits. Runners: with all tests they ran.
_PARTS = {
    CONTROLLER: "dawg_orchestrator controller",
    "api": "dawg_orchestrator api",
    "agents": "dawg_agent agent",
    "runners": "runner.py",
    "apiserver": "kube-apiserver",
    "etcd": "/etcd ",
    "kubelet": "kubelet",
    "containerd": "containerd",
    "benchmark": "benchmarks.",
}


@dataclass
class Usage:
    """From the beginning of a block to its end; of several blocks the sum."""

    writes: Counter[str] = field(default_factory=Counter)  # by "agent verb resource"
    refused: int = 0  # answers 429 to any of our parts
    cpu_seconds: Counter[str] = field(default_factory=Counter)  # by part
    rss_mib: float = 0.0  # of the controller, at the end

    def wire(self, runs: int) -> dict[str, Any]:
        """For JSON, by run."""
        writes = {who: count / runs for who, count in sorted(self.writes.items()) if "testruns" in who}
        cpu = {part: seconds / runs * 1000 for part, seconds in self.cpu_seconds.most_common()}
        return {"writes_per_run": writes, "cpu_ms_per_run": cpu, "rss_mib": self.rss_mib}

    def told(self, runs: int) -> str:
        """For people, by run."""
        wire = self.wire(runs)
        writes = ", ".join(f"{who} {count:.2f}" for who, count in wire["writes_per_run"].items())
        cpu = ", ".join(f"{part} {ms:.2f}" for part, ms in wire["cpu_ms_per_run"].items() if ms >= 0.01)
        return f"writes per run: {writes}\nCPU ms per run: {cpu}\ncontroller: {self.rss_mib:.0f} MiB"


@contextmanager
def measured(into: Usage | None = None) -> Iterator[Usage]:
    """Add to a Usage what is used for as long as the block lasts."""
    usage = into or Usage()
    offset = paths.AUDIT_LOG.stat().st_size if paths.AUDIT_LOG.exists() else 0
    before = _cpu_seconds()
    yield usage
    usage.cpu_seconds.update(_cpu_seconds() - before)
    usage.rss_mib = rss_mib()
    _read_audit_log(usage, offset)


def controller() -> Path | None:
    """The /proc folder of the controller; None where it cannot be seen from here."""
    return next((place for place, part in _processes() if part == CONTROLLER), None)


def controller_in(pod: str) -> Path | None:
    """The /proc folder of the controller in that pod."""
    mark = f"HOSTNAME={pod}\0".encode()
    found = (place for place, part in _processes() if part == CONTROLLER)
    return next((place for place in found if mark in (place / "environ").read_bytes()), None)


def rss_mib() -> float:
    """Resident memory of the controller in MiB; 0 where it cannot be seen."""
    place = controller()
    if place is None:
        return 0.0
    line = next(line for line in (place / "status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def controller_cpu_seconds() -> float:
    """CPU that the controller has used since it began."""
    return _cpu_seconds()[CONTROLLER]


def _processes() -> Iterator[tuple[Path, str]]:
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                line = (place / "cmdline").read_text().replace("\0", " ")
            except (OSError, UnicodeDecodeError):
                continue
            part = next((part for part, mark in _PARTS.items() if mark in line), None)
            if part is not None:
                yield place, part


def _cpu_seconds() -> Counter[str]:
    """CPU of every part's processes that live, with the children that they have seen end."""
    used: Counter[str] = Counter()
    for place, part in _processes():
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        used[part] += sum(int(ticks) for ticks in fields[11:15]) / _TICKS  # type: ignore[assignment]
    return used


def _read_audit_log(usage: Usage, offset: int) -> None:
    """What the apiserver has written since then; a log that was rotated meanwhile counts from its beginning."""
    if not paths.AUDIT_LOG.exists():
        return
    with paths.AUDIT_LOG.open("rb") as log:
        if 0 < offset <= paths.AUDIT_LOG.stat().st_size:
            log.seek(offset - 1)
            log.readline()  # the rest of a line that was just being written then
        for line in log:
            if not line.endswith(b"\n"):
                break  # it is just being written
            event = json.loads(line)
            reference, code = event.get("objectRef") or {}, event.get("responseStatus", {}).get("code", 0)
            agent = event.get("userAgent", "").split("/")[0].split(" ")[0]
            if code == 429 and agent.startswith("dawg-"):
                usage.refused += 1
            if event["verb"] in _WRITES and code < 300:
                sub = f"/{reference['subresource']}" if reference.get("subresource") else ""
                usage.writes[f"{agent} {event['verb']} {reference.get('resource', '')}{sub}"] += 1
