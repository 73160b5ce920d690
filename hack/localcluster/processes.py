"""The cluster's processes: started detached, recognised beyond doubt, restarted when changed, stopped by pid."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localcluster import cgroups, commands, paths
from localcluster.errors import ClusterError

POLL_SECONDS = 0.1
LOG_LINES = 15


@dataclass(frozen=True)
class Component:
    """A program of the cluster, and the files whose change means that it must be started again."""

    name: str
    command: tuple[str, ...]
    configuration: tuple[Path, ...] = ()
    stop_seconds: float = 10.0

    @property
    def log(self) -> Path:
        return paths.LOGS / f"{self.name}.log"

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.command).encode())
        for file in self.configuration:
            digest.update(file.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """What identifies a process: pids are reused, but not within one boot with the same start time."""

    name: str
    pid: int
    started: int
    boot: str
    fingerprint: str


def _record_file(name: str, records: Path = paths.RECORDS) -> Path:
    return records / f"{name}.json"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> int | None:
    """In clock ticks since boot; None when the process is gone or waits only to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name, which may contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    # While other threads of it still end, a process keeps its ports.
    has_ended = fields[0] in "ZX" and int(fields[17]) <= 1
    return None if has_ended else int(fields[19])


def record_of(name: str, records: Path = paths.RECORDS) -> Record | None:
    """The record of a process that lives and is ours; a record of anything else counts as none."""
    try:
        record = Record(**json.loads(_record_file(name, records).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if record.boot != _boot() or _start_time(record.pid) != record.started:
        return None
    return record


def recorded_names(records: Path = paths.RECORDS) -> list[str]:
    return sorted(file.stem for file in records.glob("*.json"))


def any_lives(records: Path = paths.RECORDS) -> bool:
    return any(record_of(name, records) for name in recorded_names(records))


def ensure(component: Component) -> bool:
    """Have `component` running as described; True if it had to be started."""
    record = record_of(component.name)
    if record is not None:
        if record.fingerprint == component.fingerprint():
            return False
        stop(component.name, component.stop_seconds)
    _start(component)
    return True


def _start(component: Component) -> None:
    component.log.parent.mkdir(parents=True, exist_ok=True)
    paths.RECORDS.mkdir(parents=True, exist_ok=True)
    with component.log.open("ab") as log:
        # A session of its own, so that neither the end of hack/up nor its terminal's ends the cluster; a bare
        # environment, so that no token of the caller's gets in.
        process = subprocess.Popen(
            component.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(paths.CLUSTER)},
            start_new_session=True,
        )
    with contextlib.suppress(ProcessLookupError):
        cgroups.take_in(process.pid)
    # 0 for one that ended at once: the record then names a process that does not live.
    started = _start_time(process.pid) or 0
    record = Record(component.name, process.pid, started, _boot(), component.fingerprint())
    _record_file(component.name).write_text(json.dumps(asdict(record)))


def stop(name: str, seconds: float = 10.0) -> None:
    """Ask the recorded process to end, insist after `seconds`, and forget it."""
    record = record_of(name)
    if record is not None:
        _signal(record.pid, signal.SIGTERM)
        if not _gone(record, seconds):
            _signal(record.pid, signal.SIGKILL)
            _gone(record, 10.0)
    _record_file(name).unlink(missing_ok=True)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone(record: Record, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _start_time(record.pid) == record.started:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def wait_for(
    what: str,
    probe: Callable[[], bool],
    components: Sequence[Component],
    seconds: float,
    interval: float = POLL_SECONDS,
) -> None:
    """Wait until `probe` says yes; a component that dies meanwhile ends the wait with its last words."""
    deadline = time.monotonic() + seconds
    while not probe():
        for component in components:
            if record_of(component.name) is None:
                raise ClusterError(f"{component.name} ended while {what} was waited for.")
        if time.monotonic() > deadline:
            logs = ", ".join(str(component.log) for component in components)
            raise ClusterError(f"Waited {seconds:.0f} s for {what}. The logs may say why: {logs}")
        time.sleep(interval)


def wait_for_command(what: str, command: Sequence[str | Path], components: Sequence[Component], seconds: float) -> None:
    """Wait until a command that itself waits (such as `kubectl wait`) ends well."""
    with subprocess.Popen(
        command,
        env=commands.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as waiting:
        try:
            wait_for(what, lambda: waiting.poll() is not None, components, seconds)
        except ClusterError:
            waiting.kill()
            raise
        output = waiting.communicate()[0]
    if waiting.returncode != 0:
        raise commands.failure(command, waiting.returncode, output.splitlines())


def dead_messages() -> list[str]:
    """About every process that was started, was not stopped, and is gone."""
    return [_dead_message(name) for name in recorded_names() if record_of(name) is None]


def _dead_message(name: str) -> str:
    log = paths.LOGS / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
    shown = "\n".join(f"    {line[:400]}" for line in lines)
    return f"{name} has ended. The last lines of {log}:\n{shown}"
