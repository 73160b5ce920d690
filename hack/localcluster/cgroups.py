"""The cluster's own cgroup in every hierarchy of the machine, version 1 or 2."""

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = "dawg"
SYSTEM = "system"  # the cluster's own programs, beside the kubelet's `kubepods`
# Version 1 lets no process into a group before these two say where it may run.
PLACEMENT = ("cpuset.cpus", "cpuset.mems")
KILL_SECONDS = 15.0
DELETE_SECONDS = 5.0
# How processor time is shared out where it is short. In the root group each thread would weigh as much as all pods; on
# a node of its own, systemd gives its system.slice 1024 shares, and the kubelet its pods 1024 a core.
SYSTEM_SHARES = 1024
ROOT_SHARES = 4096  # the cluster is what the machine is for


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
            _pass_on_controllers(group)
        if _shares_processors(group):
            (group / SYSTEM).mkdir(exist_ok=True)
            _weigh(group, ROOT_SHARES)
            _weigh(group / SYSTEM, SYSTEM_SHARES)


def take_in(pid: int) -> None:
    """A program of the cluster gets its share of the processors as such."""
    for group in existing():
        if (group / SYSTEM).is_dir():
            (group / SYSTEM / "cgroup.procs").write_text(str(pid))


def _shares_processors(group: Path) -> bool:
    return (group / "cpu.shares").exists() or (group / "cpu.weight").exists()


def _weigh(group: Path, shares: int) -> None:
    """Version 2 counts 100 where version 1 counts 1024."""
    if (group / "cpu.shares").exists():
        (group / "cpu.shares").write_text(str(shares))
    else:
        (group / "cpu.weight").write_text(str(shares * 100 // 1024))


def _pass_on_controllers(parent: Path) -> None:
    """Version 2: a group has the controllers that its parent passes on."""
    wanted = " ".join(f"+{name}" for name in (parent / "cgroup.controllers").read_text().split())
    if wanted:
        (parent / "cgroup.subtree_control").write_text(wanted)


def processes() -> set[int]:
    """Those of the pods."""
    found: set[int] = set()
    for group in existing():
        for folder, subfolders, files in os.walk(group):
            if Path(folder) == group and SYSTEM in subfolders:
                subfolders.remove(SYSTEM)
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
    """Remove the cgroups from the leaves up, once what was killed in them is gone."""
    deadline = time.monotonic() + DELETE_SECONDS
    while (groups := existing()) and time.monotonic() < deadline:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):  # busy: in the next round, or hack/down lists it
                    Path(folder).rmdir()
        time.sleep(0.02)
