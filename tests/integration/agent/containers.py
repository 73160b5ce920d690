"""Runners as a warm pool's pod has them: process 1 of a PID namespace, a user of their own, small volumes in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import dawg_agent.runner
from dawg_agent.slots import Ended, RunOrder, Slot, Slots

USER = 54321  # nobody else's
PATIENCE = 20.0
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
MEBIBYTES = 4
_NOT_MADE = 97
# As a pod: what it may write to is small and its own, what else there is can only be read.
_SCRIPT = """
for folder in dawg tmp shm; do
    mount -t tmpfs -o mode=2777,gid=$USER_ID,size=$SIZE tmpfs "$FOLDER/$folder" || exit 97
done
if [ -n "$GROUP" ]; then
    echo $$ > "$GROUP/cgroup.procs" && mount --bind "$GROUP" "$COUNTER" || exit 97
fi
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \\
    "$PYTHON" -I "$FOLDER/runner.py" --socket "$FOLDER/0/door/agent.sock" --volume "$FOLDER/dawg" \\
    --scratch "$FOLDER/tmp" --scratch "$FOLDER/shm" --processes "$PROCESSES" --preload pytest
"""
# In place of the real one, which the machine's own python3 may not have: a preloaded package that says what it sees.
_PYTEST = """
import runpy, sys

def main():
    runpy.run_path(sys.argv[1])
    return 4
"""


def why_not() -> str | None:
    """What is missing here to make a container; None: nothing."""
    if os.geteuid() != 0:
        return "only root can make PID namespaces and other users' processes"
    missing = [tool for tool in ("unshare", "setpriv", "mount") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if shutil.which("python3", path=SYSTEM_PATH) is None:
        return f"there is no python3 in {SYSTEM_PATH} that another user could run"
    return None


@dataclass
class Container:
    """A slot whose runner is contained, and started again whenever it ends, as the kubelet does."""

    folder: Path
    slots: Slots
    group: Path | None = None  # of processes, whose memory is limited
    starts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _keeping: asyncio.Task[None] | None = None

    @property
    def volume(self) -> Path:
        return self.folder / "dawg"

    def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _keep_running(self) -> None:
        while True:
            self.starts += 1
            self._process = await self._start()
            if await self._process.wait() == _NOT_MADE:
                raise RuntimeError("the container could not be made")

    async def _start(self) -> asyncio.subprocess.Process:
        counter = "/sys/fs/cgroup/memory" if self.group and self.group.is_relative_to("/sys/fs/cgroup/memory") else ""
        environment = {
            "PATH": SYSTEM_PATH, "FOLDER": str(self.folder), "USER_ID": str(USER), "SIZE": f"{MEBIBYTES}m",
            "PYTHON": str(shutil.which("python3", path=SYSTEM_PATH)), "PROCESSES": "40",
            "GROUP": str(self.group or ""), "COUNTER": counter or ("/sys/fs/cgroup" if self.group else ""),
            "HOME": "/nonexistent", "PYTHONPATH": str(self.folder / "lib"),
        }  # fmt: skip
        apart = ("--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--ipc", "--propagation", "private")
        return await asyncio.create_subprocess_exec("unshare", *apart, "sh", "-c", _SCRIPT, env=environment)

    def runner_pid(self) -> int:
        """Process 1 as the machine sees it."""
        assert self._process is not None
        listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return int(listed.split()[0])

    def inside(self, path: Path) -> Path:
        """A path in the container's own mounts."""
        return Path(f"/proc/{self.runner_pid()}/root{path}")

    async def claim(self) -> Slot:
        assert self._keeping is not None
        claiming = asyncio.ensure_future(self.slots.claim())
        await asyncio.wait({claiming, self._keeping}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not claiming.done():
            claiming.cancel()
            raise self._keeping.exception() if self._keeping.done() else TimeoutError  # type: ignore[misc]
        return claiming.result()

    async def run(self, script: str) -> tuple[Ended, str]:
        return await self.run_command("sh", "-c", script)

    async def run_python(self, script: str) -> tuple[Ended, str]:
        return await self.run_command("python3", "-c", script)

    async def run_command(self, *argv: str) -> tuple[Ended, str]:
        """Run a command in a slot that is given back then; return how it ended and what it wrote."""
        slot = await self.claim()
        try:
            return await self.run_in(slot, *argv)
        finally:
            slot.release()

    async def run_in(
        self, slot: Slot, *argv: str, at_first_line: Callable[[], None] | None = None
    ) -> tuple[Ended, str]:
        """Run a command in a slot that stays claimed."""
        place = str(self.volume / "workspace")
        order = RunOrder(argv, {"PATH": SYSTEM_PATH}, place, place, preloaded=True, readable=True)
        return await _run(slot, order, at_first_line)


async def _run(slot: Slot, order: RunOrder, at_first_line: Callable[[], None] | None) -> tuple[Ended, str]:
    outlet, inlet = os.pipe()
    with os.fdopen(outlet, "rb") as output:
        try:
            async with asyncio.timeout(PATIENCE):
                running = slot.begin(order, inlet, (), lambda _: None)
                if at_first_line is not None:
                    await asyncio.to_thread(os.read, outlet, 100)
                    at_first_line()
                ended = await running
        finally:
            os.close(inlet)
        return ended, (await asyncio.to_thread(output.read)).decode(errors="backslashreplace")


@asynccontextmanager
async def a_container(group: Path | None = None) -> AsyncIterator[Container]:
    folder = _a_folder()
    slots = Slots(folder, 1)
    await slots.open()
    container = Container(folder, slots, group)
    container.start()
    try:
        yield container
    finally:
        await container.stop()
        await slots.close()
        shutil.rmtree(folder)


def _a_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dawg-", dir="/tmp"))
    folder.chmod(0o755)
    for name in ("dawg", "tmp", "shm", "0/door", "lib/pytest"):
        (folder / name).mkdir(parents=True)
    os.chown(folder / "0" / "door", 0, USER)
    (folder / "0" / "door").chmod(0o2755)
    shutil.copy(dawg_agent.runner.__file__, folder / "runner.py")
    (folder / "runner.py").chmod(0o644)
    (folder / "lib" / "pytest" / "__init__.py").write_text(_PYTEST)
    (folder / "lib" / "pytest" / "__main__.py").touch()
    return folder


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.005)


def a_memory_group(mebibytes: int) -> Path | None:
    """A group of processes with little memory, whichever kind of groups this machine has; None: it has none."""
    name, limit = f"dawg-test-{os.getpid()}", str(mebibytes * 2**20)
    for folder, file in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")
    ):  # fmt: skip
        if not (folder / "cgroup.procs").exists():
            continue
        with contextlib.suppress(OSError):
            (folder / name).mkdir()
            (folder / name / file).write_text(limit)
            return folder / name
        subprocess.run(["rmdir", folder / name], check=False, stderr=subprocess.DEVNULL)
    return None
