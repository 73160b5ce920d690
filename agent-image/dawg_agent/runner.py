"""The first process of a warm slot: runs one task after another in a container of the user's image.

    agent ⇄ socket (SEQPACKET: one JSON object a packet, files as descriptors) ⇄ runner
    run: unpack trees → start → watch → kill all that is left → ended       clean: empty every writable folder

An init container copies this one file into an image that we do not know: standard library only, Python 3.8 or newer,
started as ``python3 -I``. It holds no credential. Test code runs as the same user, so nothing that this user can write,
send or signal is believed, and what cannot be put right ends the container: the kubelet starts a clean one.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import importlib
import importlib.util
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import time
import traceback
import types
from dataclasses import dataclass
from typing import Any, Dict, Iterator, NoReturn, Sequence, Tuple, Union

LEAST_LIMIT = 4096  # processes of all slots of one number on a node
LOOK = 0.2  # seconds between looks at the number of processes, the volume, and a stop that waits
STUBBORN = 2.0  # seconds after SIGKILL in which at least one more process must have ended
MAX_PACKET = 60_000
MAX_DESCRIPTORS = 253  # the kernel's own limit for one packet
NEARLY_FULL = 64 * 1024  # bytes; a write that did not fit leaves less
VOLUME = "/dawg"
SCRATCH = ("/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108 - the container's own; emptied before each task
FOLDERS = ("workspace", "results", "outputs", "home")
READ_BY_AGENT = ("workspace", "results", "outputs")
TREE_MAGIC = b"DAWGTREE"
OPEN_FOLDERS = 100  # of a tree that is being unpacked
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")  # v2, v1

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_SI_USER = 0
_DEFAULT_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_CLOCK_REALTIME_COARSE = 5  # by which the kernel dates files
_SETTINGS = ("LANG", "TZ", "GLIBC_TUNABLES")  # read when a process starts, like all that begin with these:
_PREFIXES_OF_SETTINGS = ("PYTHON", "LC_", "LD_", "MALLOC_")
_APPLIED_AFTER_FORK = frozenset({"PYTHON", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"})

Environment = Dict[str, str]
Reach = Union["WholeNamespace", "OneSession"]
_Entry = Tuple[str, str, int, Any]


class CannotStart(Exception):
    """The task never ran; the text says why."""


class Poisoned(Exception):
    """Something of the last task cannot be got rid of."""


class AgentGone(Exception):
    """Nobody is there to work for."""


# --- what belongs to a task -------------------------------------------------------------------------------------------


class WholeNamespace:
    """As process 1: everything else in the PID namespace is the task's, however it was started."""

    def __init__(self) -> None:
        self.leader: int | None = None

    def others(self) -> list[int]:
        return [pid for pid in _processes() if pid != 1]

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)

    def is_genuine(self, stop: Any) -> bool:
        """Whether SIGTERM came from outside; a test may send it, too, but not in the name of the kernel."""
        return bool(stop.si_code == _SI_USER and stop.si_pid == 0)

    def remove_ipc(self) -> None:
        _remove_ipc()


class OneSession:
    """In a unit test: only the session that the task was started in, because the rest of the machine is not ours."""

    def __init__(self) -> None:
        self.leader: int | None = None

    def others(self) -> list[int]:
        return [pid for pid in _processes() if self.leader is not None and _session_of(pid) == self.leader]

    def signal(self, number: int) -> None:
        for pid in self.others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def is_genuine(self, stop: Any) -> bool:
        return True

    def remove_ipc(self) -> None:
        pass


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session_of(pid: int) -> int | None:
    """A living process' session; None: it is over."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, _parent, _group, session = file.read().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else int(session)


def _oom_kills() -> int:
    """How many processes of this container the kernel has killed for memory."""
    for path in OOM_COUNTERS:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


# --- protection of process 1 ------------------------------------------------------------------------------------------


def _c_library() -> Any:
    """The C library; None where Python was built without ctypes."""
    try:
        import ctypes

        return ctypes.CDLL(None)
    except (ImportError, OSError):
        return None


_C = _c_library()


def _prctl(option: int, value: int) -> bool:
    if _C is None:
        return False
    from ctypes import c_ulong

    return bool(_C.prctl(option, *map(c_ulong, (value, 0, 0, 0))) == 0)


def _protect() -> None:
    """Keep test code, which runs as the same user, out of this process and away from other users."""
    if not _prctl(_PR_SET_DUMPABLE, 0):
        _note("the runner can be traced by tests: prctl cannot be called")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _limit(processes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    # The kernel counts a user's processes on the whole node, so this alone would let pods starve each other.
    # It is also well above what a task may have: a fork bomb that fails here would be over before anybody looks.
    wanted = max(4 * processes, LEAST_LIMIT)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _standing() -> dict[str, object]:
    """What a process of the same user could change about this one, and the next task would inherit."""
    standing: dict[str, object] = {
        name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
    }
    standing["priority"] = os.getpriority(os.PRIO_PROCESS, 0)
    standing["scheduler"] = os.sched_getscheduler(0)
    return standing


def _remove_ipc() -> None:
    """Remove System V objects of ours: they outlive their processes, and the pod's other slots share the namespace."""
    ours = str(os.geteuid())
    for kind, arguments in (("shm", (0, None)), ("sem", (0, 0)), ("msg", (0, None))):
        with contextlib.suppress(OSError), open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            columns = file.readline().split()
            for line in file:
                values = line.split()
                row = dict(zip(columns, values))
                if ours in (row["uid"], row["cuid"]) and _C is not None:
                    getattr(_C, f"{kind}ctl")(int(values[1]), *arguments)  # 0 is IPC_RMID


# --- folders ----------------------------------------------------------------------------------------------------------


def empty(folder: str) -> None:
    """Remove everything below a folder that is ours; what another user left there cannot come from a task."""
    _refuse_what_others_use(folder)
    _make_accessible(folder)
    top = os.open(folder, _FOLDER)
    try:
        _empty(top)
        left = [entry.name for entry in os.scandir(top) if entry.stat(follow_symlinks=False).st_uid == os.geteuid()]
        if left:
            raise Poisoned(f"{folder}/{left[0]} cannot be removed")
    finally:
        os.close(top)


def _refuse_what_others_use(folder: str) -> None:
    """Never empty a machine's own /tmp, whatever was said at the start: a slot's folders are mounts of their own."""
    if os.getpid() == 1:
        if not os.path.ismount(folder):
            raise Poisoned(f"{folder} is not emptied: it is no volume of this container's own")
    elif os.lstat(folder).st_mode & stat.S_ISVTX or os.path.ismount(folder):
        raise Poisoned(f"{folder} is not emptied: it is shared with the rest of the machine")


def _empty(top: int) -> None:
    """Remove what can be removed, at any depth, with names of any kind, in little memory.

    Folders that hold something are moved up to the top before they are emptied: so no path gets longer than two names.
    """
    token = os.urandom(8).hex()
    moved = 0
    changed = True
    while changed:
        changed = False
        for entry in os.scandir(top):
            if _removed(entry, top):
                changed = True
            elif entry.is_dir(follow_symlinks=False):
                up, changed_inside = _empty_into(top, entry.name, f".{token}-{moved}-")
                moved += up
                changed |= changed_inside


def _removed(entry: os.DirEntry[str], folder: int) -> bool:
    try:
        (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.name, dir_fd=folder)
    except OSError:
        return False
    return True


def _empty_into(top: int, name: str, prefix: str) -> tuple[int, bool]:
    """Remove the entries of a folder; the folders in it that hold something go to the top, under new names."""
    moved, changed = 0, False
    try:
        os.chmod(name, 0o700, dir_fd=top)
        folder = os.open(name, _FOLDER, dir_fd=top)
    except OSError:
        return 0, False
    try:
        if os.fstat(folder).st_dev != os.fstat(top).st_dev:  # a mount: no task can make one, so it is none of its files
            return 0, False
        for entry in os.scandir(folder):
            if _removed(entry, folder):
                changed = True
            elif entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.chmod(entry.name, 0o700, dir_fd=folder)  # moving a folder writes to it: to its ".."
                    os.rename(entry.name, f"{prefix}{moved}", src_dir_fd=folder, dst_dir_fd=top)
                    moved, changed = moved + 1, True
    finally:
        os.close(folder)
    return moved, changed


def _make_accessible(folder: str) -> None:
    mode = os.lstat(folder)
    if stat.S_ISDIR(mode.st_mode) and mode.st_uid == os.geteuid() and mode.st_mode & 0o700 != 0o700:
        os.chmod(folder, mode.st_mode | 0o700)


def let_group_read(folder: str, group: int) -> None:
    """Let the agent, another user of the volume's group, read what a test wrote; links are not followed."""
    pending = [folder]
    while pending:
        path = pending.pop()
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                continue
            _let_read(path, 0o750, group)
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    _let_read(entry.path, 0o040, group)


def _let_read(path: str, bits: int, group: int) -> None:
    found = os.lstat(path)
    if found.st_uid != os.geteuid():
        return
    if found.st_gid != group:  # made elsewhere, and moved here
        os.chown(path, -1, group)
    if found.st_mode & bits != bits:
        os.chmod(path, stat.S_IMODE(found.st_mode) | bits)


class Ground:
    """Every folder that a task may write to."""

    def __init__(self, volume: str, scratch: Sequence[str]) -> None:
        self.volume = volume
        self.scratch = scratch

    @property
    def home(self) -> str:
        return os.path.join(self.volume, "home")

    def clean(self) -> None:
        """Make it as no task has touched it."""
        try:
            for folder in (self.volume, *self.scratch):
                if os.path.isdir(folder):
                    empty(folder)
            for name in FOLDERS:
                place = os.path.join(self.volume, name)
                os.mkdir(place)
                os.chmod(place, 0o2775)  # noqa: S103 - what is made inside belongs to the group, as the agent does
        except OSError as error:
            raise Poisoned(f"cannot be cleaned: {error}") from error

    def is_full(self) -> bool:
        found = os.statvfs(self.volume)
        return found.f_bavail * found.f_frsize < NEARLY_FULL or (found.f_files > 0 and found.f_favail == 0)

    def let_agent_read(self) -> None:
        group = os.stat(self.volume).st_gid
        for name in READ_BY_AGENT:
            let_group_read(os.path.join(self.volume, name), group)

    def holds(self, path: str) -> bool:
        """Whether tests can write there."""
        return not os.path.isabs(path) or any(
            os.path.commonpath((path, folder)) == folder for folder in (self.volume, *self.scratch)
        )


# --- trees ------------------------------------------------------------------------------------------------------------


def unpack(tree: int, root: str) -> None:
    """Write a packed tree below a folder; raise CannotStart when it is none or does not fit."""
    try:
        with mmap.mmap(tree, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as content:
            index, at = _index_of(content)
            with contextlib.closing(_Unpacking(root)) as unpacking:
                for kind, path, mode, extra in index:
                    at = unpacking.put(kind, path, mode, extra, content, at)
            if at != len(content):
                raise ValueError("its size is not what its index says")
    except (OSError, ValueError, TypeError) as error:
        raise CannotStart(f"cannot be unpacked: {error}") from error


def _index_of(content: mmap.mmap) -> tuple[list[_Entry], int]:
    start = len(TREE_MAGIC) + 4
    if content[: len(TREE_MAGIC)] != TREE_MAGIC or len(content) < start:
        raise ValueError("it is no packed tree")
    (size,) = struct.unpack(">I", content[len(TREE_MAGIC) : start])
    return json.loads(content[start : start + size]), start + size


class _Unpacking:
    """Entries go in one by one, each into its parent's own descriptor, so that no link can bend the way."""

    def __init__(self, root: str) -> None:
        os.makedirs(root, exist_ok=True)
        self._root = os.open(root, _FOLDER)
        self._open: dict[bytes, int] = {}

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def put(self, kind: str, path: str, mode: int, extra: Any, content: mmap.mmap, at: int) -> int:
        """Write one entry; return where the bytes of the next one begin."""
        names = path.encode("utf-8", "surrogateescape").split(b"/")
        if any(name in (b"", b".", b"..") for name in names):
            raise ValueError(f"the path {path!r} leads out of its folder")
        folder, name = self._folder(names[:-1]), names[-1]
        if kind == "f":
            return self._file(folder, name, mode & 0o777, content, at, extra)
        if kind == "d":
            self._subfolder(folder, name, mode & 0o777 | 0o700)
        elif kind == "l":
            self._link(folder, name, extra)
        else:
            raise ValueError(f"{path!r} is of the unknown kind {kind!r}")
        return at

    def _folder(self, names: list[bytes]) -> int:
        if not names:
            return self._root
        path, parent = b"/".join(names), b"/".join(names[:-1])
        if path not in self._open:
            if len(self._open) >= OPEN_FOLDERS or parent not in self._open:
                self._forget()
                self._open[parent] = self._walk(names[:-1])
            self._open[path] = os.open(names[-1], _FOLDER, dir_fd=self._open[parent])
        return self._open[path]

    def _walk(self, names: list[bytes]) -> int:
        """Open a folder step by step from the root: any of them may be a link that an earlier tree has put there."""
        folder = os.dup(self._root)
        for name in names:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return folder

    def _file(self, folder: int, name: bytes, mode: int, content: mmap.mmap, at: int, size: int) -> int:
        end = at + size
        if not at <= end <= len(content):
            raise ValueError("it is shorter than its index says")
        file = self._create(folder, name, mode)
        try:
            with memoryview(content) as everything:
                while at < end:
                    with everything[at:end] as rest:
                        at += os.write(file, rest)
        finally:
            os.close(file)
        return end

    def _create(self, folder: int, name: bytes, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, mode, dir_fd=folder)
        except FileExistsError:
            self._clear(folder, name)
            return os.open(name, flags, mode, dir_fd=folder)

    def _subfolder(self, folder: int, name: bytes, mode: int) -> None:
        try:
            os.mkdir(name, mode, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                self._clear(folder, name)
                os.mkdir(name, mode, dir_fd=folder)

    def _link(self, folder: int, name: bytes, target: str) -> None:
        raw = target.encode("utf-8", "surrogateescape")
        try:
            os.symlink(raw, name, dir_fd=folder)
        except FileExistsError:
            self._clear(folder, name)
            os.symlink(raw, name, dir_fd=folder)

    def _clear(self, folder: int, name: bytes) -> None:
        """Remove what an earlier tree put where a later one wants something else."""
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
            return
        inside = os.open(name, _FOLDER, dir_fd=folder)
        try:
            _empty(inside)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=folder)
        # What was opened below it is gone; the caller still uses its parent.
        for path in [path for path, held in self._open.items() if held != folder]:
            os.close(self._open.pop(path))

    def _forget(self) -> None:
        for held in self._open.values():
            os.close(held)
        self._open.clear()


def _begin_new_time() -> int:
    """Return a time in ns that is later than that of every file so far, and not later than that of any from now on.

    Files are dated by a clock that stands still for up to 10 ms: so wait for its next step.
    """
    now = time.time_ns()
    for _ in range(40):
        if time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) > now:
            break
        time.sleep(0.0005)
    return now


# --- starting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What to run."""

    argv: list[str]
    env: Environment
    cwd: str | None
    root: str
    preloaded: bool
    readable: bool

    @classmethod
    def read(cls, file: int) -> Order:
        content = os.pread(file, os.fstat(file).st_size, 0)
        return cls(**json.loads(content))


def _environment_at_start() -> Environment:
    """The container's own environment: Python adds variables of its own to ``os.environ`` before we can see it."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0") if pair]
    except OSError:
        pairs = [(name, "=", value) for name, value in os.environ.items()]
    return {name: value for name, _, value in pairs if not name.startswith("DAWG_RUNNER")}


def _with_home(environment: Environment, home: str) -> Environment:
    given = environment.get("HOME", "")
    usable = os.path.isdir(given) and os.access(given, os.W_OK)
    return environment if usable else {**environment, "HOME": home}


def _program_of(argv: list[str], environment: Environment) -> str:
    if not argv:
        raise CannotStart("the command is empty")
    if "/" in argv[0]:
        return argv[0]
    path = environment.get("PATH", os.defpath)
    found = shutil.which(argv[0], path=path)
    if found is None:
        raise CannotStart(f"command not found: {argv[0]!r} is in no folder of PATH ({path})")
    return found


def _spawn(program: str, argv: list[str], environment: Environment, output: int) -> int:
    """Start a program as the leader of a session of its own, with nothing of ours but the output."""
    files: list[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    try:
        return os.posix_spawn(
            program, argv, environment, file_actions=files, setsid=True, setsigmask=[], setsigdef=_DEFAULT_SIGNALS
        )
    except NotImplementedError:  # Python was built where posix_spawn knew no sessions
        return _spawn_slowly(program, argv, environment, output)


def _spawn_slowly(program: str, argv: list[str], environment: Environment, output: int) -> int:
    import subprocess

    process = subprocess.Popen(
        argv, executable=program, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True, preexec_fn=_unblock_signals,  # noqa: PLW1509 - there are no threads
    )  # fmt: skip
    process.returncode = 0  # it is reaped with everything else
    return process.pid


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _why_not(program: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        if os.path.exists(program):
            return f"{program} cannot be started: the interpreter that its first line names does not exist"
        return f"command not found: there is no {program}"
    if isinstance(error, PermissionError):
        return f"{program} cannot be started: it is not executable"
    return f"{program} cannot be started: {error}"


# --- preloaded packages -----------------------------------------------------------------------------------------------


class Preloaded:
    """Packages of the image that are imported once, so that pytest starts as a fork that has them already."""

    def __init__(self, names: Sequence[str], environment: Environment, ground: Ground) -> None:
        self._environment = environment
        self._path = _path_without_tests(environment)
        self.names: list[str] = []
        self.errors: dict[str, str] = {}
        named = [os.path.abspath(entry) for entry in environment.get("PYTHONPATH", "").split(":") if entry[:1] == "/"]
        safe = [entry for entry in named if entry != os.getcwd() and not ground.holds(entry)]
        sys.path[:] = [*safe, *(entry for entry in self._path if not ground.holds(entry))]
        for name in names:
            self._import(name)
        if self.names and len(os.listdir("/proc/self/task")) > 1:  # a fork would have half of them
            self.errors.update(dict.fromkeys(self.names, "one of the preloaded packages starts threads"))
            self.names = []
        gc.collect()
        gc.freeze()

    def _import(self, name: str) -> None:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it was, tests start without it
            self.errors[name] = _readable(f"{type(error).__name__}: {error}")[:500]
        else:
            self.names.append(name)
            if name == "pytest":
                _import_own_plugins_of_pytest()

    def serves(self, argv: list[str], environment: Environment) -> bool:
        """Whether a fork does what the command would do: the same pytest in the same interpreter, set up alike."""
        if "pytest" not in self.names or self._set_up_otherwise(environment):
            return False
        program = shutil.which(argv[0], path=environment.get("PATH", os.defpath)) or ""
        if argv[0] == "pytest":
            return _is_this_python(_interpreter_of(program))
        return argv[0] in ("python", "python3") and argv[1:3] == ["-m", "pytest"] and _is_this_python(program)

    def _set_up_otherwise(self, environment: Environment) -> bool:
        """Whether a setting that counts at a process' start is not the one that this process has."""
        for name in {*environment, *self._environment} - _APPLIED_AFTER_FORK:
            if name in _SETTINGS or name.startswith(_PREFIXES_OF_SETTINGS):
                ours = self._environment.get(name, "")
                unheard = sys.flags.ignore_environment and name.startswith("PYTHON") and name[6:7].isalpha()
                if environment.get(name, "") != ours or (unheard and ours):
                    return True
        return False

    def fork(self, argv: list[str], environment: Environment, output: int) -> int:
        """Start pytest in a copy of this process; return the copy's pid."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._live_as_pytest(argv, environment, output)
        return pid

    def _live_as_pytest(self, argv: list[str], environment: Environment, output: int) -> NoReturn:
        code = 1
        try:
            _leave_runner(output)
            os.environ.clear()
            os.environ.update(environment)
            self._set_up(argv, environment)
            code = _run_pytest()
        except SystemExit as end:
            code = _code_of(end)
        except BaseException:  # noqa: BLE001 - as at the end of any program
            traceback.print_exc()
        finally:
            _flush_and_leave(code)

    def _set_up(self, argv: list[str], environment: Environment) -> None:
        """Make it look as if the interpreter had been started for this."""
        main = types.ModuleType("__main__")
        if argv[0] == "pytest":
            script = shutil.which("pytest", path=environment.get("PATH", os.defpath)) or argv[0]
            sys.argv = [script, *argv[1:]]
            first = os.path.dirname(os.path.realpath(script))
        else:
            main.__spec__ = importlib.util.find_spec("pytest.__main__")
            origin = main.__spec__.origin if main.__spec__ else None
            sys.argv = [origin or "pytest", *argv[3:]]
            first = os.getcwd()
        main.__file__ = sys.argv[0]
        sys.modules["__main__"] = main
        named = [entry for entry in environment.get("PYTHONPATH", "").split(":") if entry]
        sys.path[:] = [first, *map(os.path.abspath, named), *self._path]
        sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
        if environment.get("PYTHONUNBUFFERED"):
            for stream in (sys.stdout, sys.stderr):
                stream.reconfigure(write_through=True)  # type: ignore[union-attr]


def _import_own_plugins_of_pytest() -> None:
    """Import what every start of pytest imports."""
    with contextlib.suppress(ImportError):
        for plugin in getattr(importlib.import_module("_pytest.config"), "default_plugins", ()):
            importlib.import_module(f"_pytest.{plugin}")


def _path_without_tests(environment: Environment) -> list[str]:
    """The interpreter's own search path: without PYTHONPATH, this file's folder and the current one."""
    named = environment.get("PYTHONPATH", "").split(":")
    left_out = {"", os.getcwd(), os.path.dirname(os.path.abspath(__file__)), *named, *map(os.path.abspath, named)}
    return [entry for entry in sys.path if entry not in left_out]


def _interpreter_of(script: str) -> str:
    """The program that a script's first line names."""
    with contextlib.suppress(OSError), open(script, "rb") as file:
        first = file.readline(512)
        if first.startswith(b"#!"):
            return os.fsdecode(first[2:].strip().split(b" ")[0])
    return ""


def _is_this_python(program: str) -> bool:
    """Whether a path leads to the running interpreter; a virtual environment's link to it is another one."""
    ours = sys.executable

    def place(path: str) -> tuple[str, str]:
        return os.path.realpath(path), os.path.realpath(os.path.dirname(path))

    return bool(program) and bool(ours) and place(program) == place(ours)


def _leave_runner(output: int) -> None:
    """In the fork: let go of all that is the runner's, above all its socket, before foreign code runs."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    _unblock_signals()
    _prctl(_PR_SET_DUMPABLE, 1)


def _run_pytest() -> int:
    return int(importlib.import_module("pytest").main())


def _code_of(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    sys.stderr.write(f"{end.code}\n")
    return 1


def _flush_and_leave(code: int) -> NoReturn:
    """End as an interpreter does, but for taking itself apart."""
    threading, atexit = sys.modules.get("threading"), importlib.import_module("atexit")
    for last in (getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)):
        if last is not None:
            with contextlib.suppress(Exception):
                last()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


# --- one task after another -------------------------------------------------------------------------------------------


@dataclass
class Task:
    """What runs."""

    number: int
    pid: int
    readable: bool
    status: int | None = None  # of the process that was started, once it has ended
    kill_at: float = float("inf")
    too_many: bool = False
    full: bool = False

    def code(self) -> int:
        """The exit code as a container's."""
        status = self.status or 0
        return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class Runner:
    """Hears the agent, starts what it orders, watches it, and leaves nothing of it."""

    def __init__(
        self, agent: socket.socket, wake: int, ground: Ground, preloaded: Preloaded, environment: Environment, most: int
    ) -> None:
        self._agent = agent
        self._wake = wake
        self._ground = ground
        self._preloaded = preloaded
        self._environment = environment
        self._most = most
        self._oom_kills = _oom_kills()  # by the time of the last cleaning; a task that starts need not wait for it
        self._reach = _reach()
        self._cwd = os.getcwd()
        self._standing = _standing()
        self._task: Task | None = None
        self._next_look = 0.0

    def serve(self) -> int:
        """Work for as long as the agent is there; return the exit code.

        SIGTERM stays unheard: a pod that is deleted tells all its containers at once, and the agent decides when its
        tasks have ended.
        """
        try:
            self._greet()
            self._work()
        except AgentGone:
            with contextlib.suppress(Poisoned):
                self._kill_everything()
            return 0
        except Poisoned as error:
            self._give_up(str(error))
        except Exception as error:  # noqa: BLE001 - a task may have done this to us: limits are not ours alone
            traceback.print_exc()
            self._give_up(f"the runner failed: {type(error).__name__}: {error}")
        else:
            return 0
        return 1

    def _greet(self) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        named = self._preloaded
        self._say("hello", python=python, pid=os.getpid(), preloaded=named.names, preloadErrors=named.errors)

    def _work(self) -> None:
        events = select.poll()
        events.register(self._agent, select.POLLIN)
        events.register(self._wake, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in events.poll(self._patience_ms())]
            if self._agent.fileno() in ready:
                self._hear()
            self._look_after()

    def _give_up(self, why: str) -> None:
        _note(why)
        with contextlib.suppress(AgentGone, OSError):
            self._say("poisoned", why=_readable(why))

    def _say(self, word: str, **more: object) -> None:
        try:
            self._agent.send(json.dumps({"say": word, **more}).encode())
        except OSError as error:
            raise AgentGone from error

    def _patience_ms(self) -> float | None:
        """How long to wait for something to happen; None while nothing runs: for ever."""
        if self._task is None:
            return None
        return 1000 * max(0.0, min(LOOK, self._task.kill_at - time.monotonic()))

    def _hear(self) -> None:
        packet, descriptors = _receive(self._agent)
        try:
            number = packet["id"]
            if packet["do"] == "run":
                self._run(number, *descriptors)
            elif packet["do"] == "clean":
                self._clean(number)
            elif packet["do"] == "stop" and self._task is not None and self._task.number == number:
                self._task.kill_at = time.monotonic() + packet["grace"]
                self._reach.signal(signal.SIGTERM)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _run(self, number: int, order: int, output: int, *trees: int) -> None:
        try:
            if self._task is not None:
                raise CannotStart("another task is still running")
            wanted = Order.read(order)
            for position, tree in enumerate(trees, 1):
                _unpack_numbered(tree, wanted.root, position)
            since = _begin_new_time() if trees and wanted.readable else None
            pid = self._start(wanted, output)
        except CannotStart as error:
            self._say("failed", id=number, why=_readable(str(error)))
            return
        at = time.time()
        self._reach.leader = pid
        self._task = Task(number, pid, wanted.readable)
        self._next_look = time.monotonic() + LOOK
        self._say("started", id=number, at=at, treeSince=since)

    def _start(self, order: Order, output: int) -> int:
        environment = _with_home({**self._environment, **order.env}, self._ground.home)
        folder = order.cwd or self._cwd
        try:
            os.chdir(folder)
        except OSError as error:
            raise CannotStart(f"cannot be started in {folder}: {error.strerror}") from error
        program = _program_of(order.argv, environment)
        try:
            if order.preloaded and self._preloaded.serves(order.argv, environment):
                return self._preloaded.fork(order.argv, environment, output)
            return _spawn(program, order.argv, environment, output)
        except (OSError, ValueError, TypeError) as error:
            raise CannotStart(_why_not(program, error)) from error
        finally:
            os.chdir("/")

    def _look_after(self) -> None:
        self._reap()
        task = self._task
        if task is not None and task.status is None:
            self._watch(task)
        if task is not None and task.status is not None:
            self._finish(task)

    def _watch(self, task: Task) -> None:
        """End a task whose time is over, or that has become too many processes."""
        now = time.monotonic()
        if now >= task.kill_at:
            self._kill_everything()
        elif now >= self._next_look:
            self._next_look = now + LOOK
            task.full = task.full or self._ground.is_full()
            if len(self._reach.others()) > self._most:
                task.too_many = True
                self._kill_everything()

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        for pid, status in _ended_children():
            if self._task is not None and pid == self._task.pid:
                self._task.status = status

    def _finish(self, task: Task) -> None:
        at = time.time()
        full = task.full or self._ground.is_full()  # asked before processes end, and with them their unlinked files
        leftovers = self._kill_everything()
        if task.readable:
            self._ground.let_agent_read()
        self._task = self._reach.leader = None
        self._say(
            "ended", id=task.number, code=task.code(), at=at, leftovers=leftovers, full=full,
            oom=_oom_kills() > self._oom_kills, processes=task.too_many,
        )  # fmt: skip

    def _kill_everything(self) -> int:
        """End all that is the task's; return how many processes that were."""
        left = self._reach.others()
        count, until = len(left), time.monotonic() + STUBBORN
        while left:
            self._reach.signal(signal.SIGKILL)
            select.select([self._wake], [], [], 0.01)
            self._reap()
            before, left = left, self._reach.others()
            if len(left) < len(before):
                until = time.monotonic() + STUBBORN
            elif time.monotonic() > until:
                raise Poisoned(f"{len(left)} processes cannot be killed")
        return count

    def _clean(self, number: int) -> None:
        if self._task is not None:
            self._kill_everything()
            self._finish(self._task)
        changed = [name for name, value in _standing().items() if self._standing[name] != value]
        if changed:
            raise Poisoned(f"the task changed the runner's {changed[0]}")
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        self._reach.remove_ipc()
        self._ground.clean()
        self._oom_kills = _oom_kills()
        self._say("clean", id=number)


def _readable(why: str) -> str:
    """A reason fit for JSON: the names in it may be no text."""
    return why.encode("utf-8", "backslashreplace").decode()[:2000]


def _reach() -> Reach:
    return WholeNamespace() if os.getpid() == 1 else OneSession()


def _unpack_numbered(tree: int, root: str, position: int) -> None:
    try:
        unpack(tree, root)
    except CannotStart as error:
        raise CannotStart(f"tree {position} {error}") from error


def _ended_children() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def _receive(agent: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Take one packet and the descriptors that came with it."""
    descriptors = array.array("i")
    try:
        content, extra, _, _ = agent.recvmsg(
            MAX_PACKET, socket.CMSG_SPACE(MAX_DESCRIPTORS * descriptors.itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except OSError as error:
        raise AgentGone from error
    for _, _, data in extra:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not content:
        raise AgentGone
    return json.loads(content), descriptors.tolist()


# --- the start --------------------------------------------------------------------------------------------------------


def _note(text: str) -> None:
    sys.stderr.write(f"dawg runner: {text}\n")
    sys.stderr.flush()


def _signals() -> int:
    """Set signals up; return what is readable when a child has ended.

    SIGTERM stays blocked and is fetched, because only then it says who sent it. Process 1 is deaf to what it does not
    handle, and Python handles SIGINT.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    wake, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake


def _connect(path: str) -> socket.socket | None:
    """Wait for the agent; None: told to stop meanwhile."""
    reach = _reach()
    while True:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            agent.connect(path)
        except OSError:
            agent.close()
            stop = signal.sigtimedwait([signal.SIGTERM], 0.05)
            if stop is not None and reach.is_genuine(stop):
                return None
        else:
            return agent


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; which folders are emptied goes without saying in a container only."""
    contained = os.getpid() == 1
    parser = argparse.ArgumentParser(prog="runner", description="Runs one task after another for an agent.")
    parser.add_argument("--socket", required=True, help="where the agent listens")
    parser.add_argument(
        "--volume", required=not contained, default=VOLUME if contained else None, help="emptied before each task"
    )
    parser.add_argument(
        "--scratch", required=not contained, action="append", help="a further folder that is emptied before each task"
    )
    parser.add_argument("--preload", action="append", default=[], help="a package to import at start")
    parser.add_argument("--processes", type=int, default=1024, help="how many a task may have at a time")
    options = parser.parse_args(arguments)
    options.scratch = options.scratch or (SCRATCH if contained else ())
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    environment = _environment_at_start()  # afterwards it cannot be read
    _protect()
    _limit(options.processes)
    os.umask(0o002)
    wake = _signals()
    ground = Ground(os.path.abspath(options.volume), [os.path.abspath(folder) for folder in options.scratch])
    try:
        ground.clean()
    except Poisoned as error:
        _note(str(error))
        return 1
    preloaded = Preloaded(options.preload, environment, ground)
    agent = _connect(options.socket)
    if agent is None:
        return 0
    return Runner(agent, wake, ground, preloaded, environment, options.processes).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
