"""What hostile test code in a slot can do: end its own task, or cost its slot a restart; the next task sees none of it.

The runner is really process 1 and another user than root, see containers.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest

from dawg_agent import slotline
from dawg_agent.slots import SlotLost
from integration.agent.containers import (
    MEBIBYTES,
    Container,
    a_container,
    a_memory_group,
    until,
    why_not,
)

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slotline, "STANDS", 0.05)


@pytest.fixture
async def container() -> AsyncIterator[Container]:
    async with a_container() as running:
        yield running


PROBE = """
import os, socket
workspace, volume = os.getcwd(), os.path.dirname(os.getcwd())
places = "workspace", "results", "outputs", "home", "../tmp", "../shm"
print("files", sum([os.listdir(os.path.join(volume, place)) for place in places], []))
print("processes", sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()))
print("priority", os.nice(0))
for kind in "shm", "sem", "msg":
    print(kind, len(open("/proc/sysvipc/" + kind).readlines()) - 1)
open("written", "wb").write(bytes(2**20))
print("children", os.waitpid(os.spawnlp(os.P_NOWAIT, "true", "true"), 0)[1])
"""
UNHARMED = "files []\nprocesses [1]\npriority 0\nshm 0\nsem 0\nmsg 0\nchildren 0\n"


async def what_the_next_finds(container: Container) -> str:
    ended, told = await container.run_python(PROBE)
    assert (ended.code, ended.leftovers, ended.full, ended.oom) == (0, 0, False, False)
    return told


# Processes

DAEMONS = """
import os, signal, sys, time

def daemon():
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    os.closerange(0, 256)
    while True:
        time.sleep(600)

for _ in range(5):
    daemon()
# one more, where the kernel lets users have namespaces of their own
os.system("unshare --user --map-root-user --pid --fork --mount-proc sleep 600 >/dev/null 2>&1 &")
time.sleep(0.1)
"""
BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
SIGNALS = """
import ctypes, os, struct
for number in range(1, 65):
    os.kill(1, number)
queue = {"x86_64": 129, "aarch64": 138}.get(os.uname().machine)
if queue:  # SIGTERM that claims to come from outside
    forged = struct.pack("5i", 15, 0, -1, 0, 0).ljust(128, bytes(1))
    assert ctypes.CDLL(None).syscall(queue, 1, 15, forged) == 0
print("all sent")
"""


async def test_nothing_that_a_task_starts_outlives_it(container: Container) -> None:
    ended, _ = await container.run_python(DAEMONS)

    assert (ended.code, ended.processes) == (0, False)
    assert ended.leftovers >= 5
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


async def test_a_fork_bomb_ends_and_is_called_by_its_name(container: Container) -> None:
    ended, _ = await container.run_python(BOMB)

    assert (ended.code, ended.processes) == (137, True)
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


async def test_a_fork_bomb_that_outlives_its_command_ends(container: Container) -> None:
    orphan = "import os\nif os.fork():\n    os._exit(3)\nwhile os.getppid() != 1:\n    pass\n"
    ended, _ = await container.run_python(orphan + BOMB)

    assert (ended.code, ended.leftovers > 0) == (3, True)
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


async def test_whoever_kills_all_within_reach_ends_nobody_but_itself(container: Container) -> None:
    assert (await container.run_python(SIGNALS))[1] == "all sent\n"
    ended, _ = await container.run("sleep 600 & kill -TERM 1; kill -KILL -1; kill -KILL 1; sleep 0.1; kill -KILL $$")

    assert ended.code == 137
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


async def test_a_stop_from_outside_ends_neither_the_task_nor_the_runner_that_has_an_agent(container: Container) -> None:
    slot = await container.claim()
    script = "trap 'exit 5' TERM; echo ready; sleep 0.2; exit 3"
    ended, _ = await container.run_in(
        slot, "sh", "-c", script, at_first_line=lambda: os.kill(container.runner_pid(), signal.SIGTERM)
    )

    assert ended.code == 3
    slot.release()
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


# Process 1

SPY = """
import ctypes, os

def attempt(name, act):
    try:
        print(name, "succeeded", act())
    except OSError as error:
        print(name, error.strerror)

def traced():
    if ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

attempt("memory", lambda: open("/proc/1/mem", "r+b"))
attempt("variables", lambda: open("/proc/1/environ").read())
attempt("descriptors", lambda: os.listdir("/proc/1/fd"))
attempt("folder", lambda: os.readlink("/proc/1/cwd"))
attempt("trace", traced)
"""
REFUSED = [
    *(f"{name} Permission denied" for name in ("memory", "variables", "descriptors", "folder")),
    "trace Operation not permitted",
]
OF_ITSELF = """
print("forked", "runner.py" in open("/proc/self/cmdline").read())
print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
print("leads a session", os.getsid(0) == os.getpid())
opened = [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")]
print("sockets", [target for target in opened if "socket:" in target or "memfd:" in target])
"""


async def test_process_1_can_be_neither_read_nor_traced(container: Container) -> None:
    _, told = await container.run_python(SPY)

    assert told.splitlines() == REFUSED


async def test_a_fork_of_process_1_is_as_far_from_it_as_any_other_process(container: Container) -> None:
    slot = await container.claim()
    script = container.inside(container.volume / "workspace" / "spy.py")
    script.write_text(SPY + OF_ITSELF)
    ended, told = await container.run_in(slot, "python3", "-m", "pytest", "spy.py")
    script.unlink()  # it is not the user's, so the runner leaves it
    slot.release()

    assert ended.code == 4
    assert told.splitlines() == [*REFUSED, "forked True", "dumpable 1", "leads a session True", "sockets []"]
    assert await what_the_next_finds(container) == UNHARMED


@pytest.mark.parametrize(
    "sabotage",
    [
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
        "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
        "resource.prlimit(1, resource.RLIMIT_NPROC, (1, 1))",
        "resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))",
    ],
)
async def test_whoever_cripples_process_1_costs_the_slot_a_restart_and_the_next_task_nothing(
    container: Container, sabotage: str
) -> None:
    try:
        ended, _ = await container.run_python(f"import os, resource\n{sabotage}")
        assert ended.code == 0
    except SlotLost:
        pass

    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 2


async def test_whoever_narrows_the_cpus_of_process_1_narrows_nobody_elses(container: Container) -> None:
    allowed = "import os\nprint(len(os.sched_getaffinity(0)))"
    _, before = await container.run_python(allowed)
    await container.run_python("import os\nos.sched_setaffinity(1, [min(os.sched_getaffinity(0))])")

    assert (await container.run_python(allowed))[1] == before


async def test_whoever_opens_the_agents_socket_finds_none(container: Container) -> None:
    door = container.folder / "0" / "door" / "agent.sock"
    knock = f"import socket\nsocket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('{door}')"
    ended, told = await container.run_python(knock)

    assert (ended.code, "FileNotFoundError" in told) == (1, True)
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


# What is left behind

LITTER = r"""
import ctypes, os, socket, sys
for folder in "workspace", "home", "results", "outputs", "../tmp", "../shm":
    os.chdir(os.path.join(VOLUME, folder))
    os.makedirs("a/b/c"); open("a/b/c/file", "w").close(); os.symlink("/etc", "a/link")
    os.chmod("a/b/c", 0); os.chmod("a/b", 0o500); os.chmod("a", 0)
    os.makedirs("read-only/x"); os.chmod("read-only", 0o500)
    os.mkfifo("fifo"); socket.socket(socket.AF_UNIX).bind("socket")
    for name in b"\xff\n\t", b"-rf", b" ", b"n" * 255, "\u202e".encode():
        open(name, "w").close()
    for _ in range(400): os.mkdir("deeper"); os.chdir("deeper")
os.chmod(VOLUME + "/workspace", 0)
os.rename(VOLUME + "/results", VOLUME + "/elsewhere"); os.symlink("/etc", VOLUME + "/results")
C = ctypes.CDLL(None)
print(min(C.shmget(42, 4096, 0o1600), C.semget(42, 1, 0o1600), C.msgget(42, 0o1600)) >= 0)
"""


async def test_whatever_a_task_leaves_behind_the_next_one_does_not_find(container: Container) -> None:
    ended, told = await container.run_python(LITTER.replace("VOLUME", repr(str(container.volume))))

    assert (ended.code, told) == (0, "True\n")
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


async def test_a_full_volume_is_told_and_is_empty_for_the_next(container: Container) -> None:
    ended, told = await container.run(f"head -c {2 * MEBIBYTES}M /dev/zero > large")

    assert (ended.code != 0, ended.full, "No space left" in told) == (True, True, True)
    assert await what_the_next_finds(container) == UNHARMED
    assert container.starts == 1


async def test_what_a_test_wrote_for_itself_only_its_agent_can_read_all_the_same(container: Container) -> None:
    slot = await container.claim()
    script = "umask 077; mkdir ../results/a; echo > ../results/a/report; chmod 0 ../results/a"
    await container.run_in(slot, "sh", "-c", script)

    folder = container.inside(container.volume / "results" / "a")
    modes = [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "report")]
    slot.release()
    assert modes == ["0o750", "0o640"]


async def test_a_task_that_needs_too_much_memory_is_said_to() -> None:
    group = a_memory_group(mebibytes=64)
    if group is None:
        pytest.skip("there are no groups of processes whose memory could be limited")
    try:
        async with a_container(group) as container:
            ended, _ = await container.run_python("x = bytearray(128 << 20)")
            assert (ended.code, ended.oom) == (137, True)

            assert await what_the_next_finds(container) == UNHARMED
            assert container.starts == 1
    finally:
        await until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
