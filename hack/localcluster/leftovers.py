"""What a cluster leaves on the machine: found by what only this cluster makes, and removed.

The same for `hack/down` and for a cluster that was killed: its processes may be gone or not, while its mounts, cgroups,
network and files remain.
"""

import json
import os
import re
import shutil
import signal
from pathlib import Path

from localcluster import cgroups, commands, network, paths, processes
from localcluster.errors import ClusterError

# First what would start things again, last what the others still talk to while they end.
STOP_ORDER = (
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "containerd",
    "kube-apiserver",
    "etcd",
)
# The kubelet and the network plugins write here whatever their settings say.
SHARED_FOLDERS = (Path("/var/lib/kubelet"), Path("/var/log/containers"), Path("/var/lib/cni"))
MADE_BY_US = paths.CACHE / "made-folders.json"


def _owner() -> Path:
    """The cache whose cluster this machine has, which is not ours if DAWG_CACHE differs."""
    return Path(paths.OWNER.read_text()) if paths.OWNER.exists() else paths.CACHE


def check_owner() -> None:
    owner = _owner()
    if owner != paths.CACHE and processes.any_lives(owner / paths.RECORDS.relative_to(paths.CACHE)):
        raise ClusterError(
            f"A cluster of another cache runs on this machine, which has room for one. "
            f"Use that one with DAWG_CACHE={owner}, or stop it: DAWG_CACHE={owner} hack/down"
        )


def claim() -> None:
    """Say whose cluster this is, and remember which shared folders it makes, so that they can go with it."""
    paths.RUNTIME.mkdir(parents=True, exist_ok=True)
    paths.OWNER.write_text(str(paths.CACHE))
    if not MADE_BY_US.exists():
        MADE_BY_US.parent.mkdir(parents=True, exist_ok=True)
        MADE_BY_US.write_text(json.dumps([str(folder) for folder in SHARED_FOLDERS if not folder.exists()]))


def clean() -> None:
    """End and remove everything of the cluster; what was built stays."""
    stop_recorded()
    # Before the shims, which are the parents of the pods' processes and so must reap them.
    cgroups.kill()
    kill_strays()
    cgroups.delete()
    unmount()
    network.delete()
    remove_files()


def stop_recorded() -> None:
    recorded = processes.recorded_names()
    for name in [*STOP_ORDER, *recorded]:
        # Without patience: all that they could still save is deleted next.
        processes.stop(name, seconds=0.0)


def kill_strays() -> None:
    for pid in stray_processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def stray_processes() -> list[int]:
    """Processes of ours that no record names, such as the shims of containers.

    Ours are those that run a program of the cache in another network namespace than the host's: on the host, tests may
    run an apiserver of the cache, and people their kubectl.
    """
    host = _network_namespace(os.getpid())
    folders = tuple(f"{cache / paths.BINARIES.name}/" for cache in {paths.CACHE, _owner()})
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        program = _program(pid)
        if program.startswith(folders) and _network_namespace(pid) not in (host, ""):
            found.append(pid)
    return found


def _program(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""


def _network_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def mounts() -> list[Path]:
    """Mount points of ours, the innermost first."""
    roots = (paths.CLUSTER, paths.RUNTIME, paths.BUILDAH_STORAGE, paths.BUILDAH_RUNTIME)
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[4]))
        if any(point.is_relative_to(root) for root in roots):
            points.append(point)
    return sorted(points, key=lambda point: len(point.parts), reverse=True)


def unmount() -> None:
    for point in mounts():
        # Lazily where it is busy: the kernel lets go once the last killed process is reaped.
        if not commands.succeeds(["umount", point]):
            commands.succeeds(["umount", "--lazy", point])


def remove_files() -> None:
    for folder in (paths.RUNTIME, paths.CLUSTER, paths.BUILDAH_RUNTIME):
        shutil.rmtree(folder, ignore_errors=True)
    if MADE_BY_US.exists():
        for name in json.loads(MADE_BY_US.read_text()):
            shutil.rmtree(name, ignore_errors=True)
        MADE_BY_US.unlink()


def remaining() -> list[str]:
    """What is still there, in words; empty after a good `clean`."""
    left = [f"process {name}" for name in processes.recorded_names() if processes.record_of(name)]
    left += [f"process {pid} ({_program(pid)})" for pid in stray_processes()]
    left += [f"mount {point}" for point in mounts()]
    left += [f"cgroup {group}" for group in cgroups.existing()]
    interface = Path(f"/sys/class/net/{network.HOST_INTERFACE}")
    files = (network.NAMESPACE_FILE, interface, paths.RUNTIME, paths.CLUSTER)
    return left + [str(file) for file in files if file.exists()]
