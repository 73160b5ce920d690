"""The cluster's own cgroup in every hierarchy of the machine, version 1 or 2."""

import os
import signal
import time
from pathlib import Path

ROOT = "dawg"
# Version 1 lets no process into a group before these two say where it may run.
PLACEMENT = ("cpuset.cpus", "cpuset.mems")
KILL_SECONDS = 15.0


def _hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def existing() -> list[Path]:
    return [folder for hierarchy in _hierarchies() if (folder := hierarchy / ROOT).is_dir()]


def create() -> None:
    for hierarchy in _hierarchies():
        group = hierarchy / ROOT
        group.mkdir(exist_ok=True)
        for name in PLACEMENT:
            if (group / name).exists() and (hierarchy / name).exists():
                (group / name).write_text((hierarchy / name).read_text())
        if (hierarchy / "cgroup.controllers").exists():
            _pass_on_controllers(hierarchy)


def _pass_on_controllers(hierarchy: Path) -> None:
    """Version 2: a group has the controllers that its parent passes on."""
    wanted = " ".join(f"+{name}" for name in (hierarchy / "cgroup.controllers").read_text().split())
    if wanted:
        (hierarchy / "cgroup.subtree_control").write_text(wanted)


def processes() -> set[int]:
    found: set[int] = set()
    for group in existing():
        for folder, _, files in os.walk(group):
            if "cgroup.procs" in files:
                try:
                    lines = (Path(folder) / "cgroup.procs").read_text().split()
                    # 0 stands for a process of an outer pid namespace, and as a target of kill for ourselves.
                    found.update(int(pid) for pid in lines if pid != "0")
                except OSError:
                    continue  # the group went away while we looked
    return found


def kill() -> None:
    """Kill what still runs in the cluster's cgroups, which are the pods, and wait until it is gone."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := processes()) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def delete() -> None:
    """Remove the cgroups from the leaves up."""
    for group in existing():
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue  # still busy; hack/down lists it
