"""The slots of a warm agent's pod: who is there to run a task, and whose turn it is.

    a door per slot → the runner that comes in → claim() → Slot.begin() → Slot.release() → cleaned → free

A door is a socket that is there only while nobody is inside, so a test finds none to knock at. When a runner is lost,
the kernel ends all of its tests with it; only when it has ended does the door open again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from dawg_agent.slotline import CannotStart, Ended, Line, RunOrder, SlotLost

__all__ = ["CannotStart", "Ended", "RunOrder", "Slot", "SlotLost", "Slots"]


class Slot:
    """A claimed slot."""

    def __init__(self, number: int, files: Path, runner: Line, leave: Callable[[], None]) -> None:
        self.number = number
        self.files = files  # what its tests see as /dawg
        self._runner = runner
        self._leave = leave

    @property
    def python(self) -> str:
        """The version of the image's Python."""
        return self._runner.hello.python if self._runner.hello else ""

    def begin(
        self, order: RunOrder, output: int, trees: Sequence[int], on_started: Callable[[datetime], None]
    ) -> asyncio.Future[Ended]:
        """Have a task started; its end is what the answer becomes. ``output`` and ``trees`` are the caller's to close.

        Raise CannotStart when its command or a tree is at fault, SlotLost when the runner is gone.
        """
        with contextlib.suppress(OSError):
            os.fchmod(output, 0o666)  # for tests that open /dev/stdout anew: to them it is another user's
        return self._runner.begin(order, output, trees, on_started)

    def stop(self, grace: float) -> None:
        """End the task that runs: SIGTERM, and after ``grace`` seconds SIGKILL."""
        self._runner.stop(grace)

    def release(self) -> None:
        """Give the slot back: it is free when it is clean; a second time does nothing."""
        leave, self._leave = self._leave, lambda: None
        leave()


class _Place:
    """One slot's place: its door, whoever is inside, and whether it is claimed."""

    def __init__(self, number: int, folder: Path, changed: Callable[[], None]) -> None:
        self.number = number
        self.files = folder / "files"
        self.claimed = False
        self.runner: Line | None = None
        self._door_path = folder / "door" / "agent.sock"
        self._door: socket.socket | None = None
        self._changed = changed
        self._awaited: int | None = None  # a runner that is lost and has not ended yet
        self._closing = False

    @property
    def usable(self) -> bool:
        return self.runner is not None and self.runner.usable

    @property
    def free(self) -> bool:
        return not self.claimed and self.runner is not None and self.runner.usable and self.runner.clean

    def open(self) -> None:
        """Let a runner in."""
        self._door_path.parent.mkdir(parents=True, exist_ok=True)
        self._door_path.unlink(missing_ok=True)
        self._door = door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        door.bind(str(self._door_path))
        self._door_path.chmod(0o660)
        door.listen(1)
        asyncio.get_running_loop().add_reader(door.fileno(), self._let_in)

    def close(self) -> None:
        """Let nobody in any more; whoever is inside leaves."""
        self._closing = True
        self._close_door()
        if self.runner is not None:
            self.runner.lose("the agent ends")
        self._stop_awaiting()

    def claim(self) -> Slot:
        assert self.runner is not None  # noqa: S101
        self.claimed = True
        return Slot(self.number, self.files, self.runner, self._leave)

    def _leave(self) -> None:
        self.claimed = False
        if self.runner is not None:
            self.runner.clean_up()
        self._changed()

    def _let_in(self) -> None:
        assert self._door is not None  # noqa: S101
        try:
            connection, _ = self._door.accept()
        except OSError:
            return
        self._close_door()
        self.runner = Line(self.number, connection, self._look)

    def _look(self) -> None:
        """See whether the runner is still there; the next one may come in when it has ended."""
        runner = self.runner
        if runner is not None and runner.lost is not None:
            self.runner = None
            self._awaited = runner.process
            if self._awaited is not None:
                asyncio.get_running_loop().add_reader(self._awaited, self._has_ended)
            else:
                self._open_again()
        self._changed()

    def _has_ended(self) -> None:
        self._stop_awaiting()
        self._open_again()

    def _open_again(self) -> None:
        if not self._closing:
            self.open()

    def _stop_awaiting(self) -> None:
        if self._awaited is not None:
            asyncio.get_running_loop().remove_reader(self._awaited)
            os.close(self._awaited)
            self._awaited = None

    def _close_door(self) -> None:
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door.fileno())
            self._door.close()
            self._door = None
            self._door_path.unlink(missing_ok=True)


class Slots:
    """All slots of one agent; ``on_change`` is called when ``usable`` may have changed."""

    def __init__(self, folder: Path, count: int, on_change: Callable[[], None] = lambda: None) -> None:
        self.on_change = on_change
        self._places = [_Place(number, folder / str(number), self._look) for number in range(count)]
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._usable_before = 0

    async def open(self) -> None:
        """Open all doors; raise OSError when a folder cannot be written."""
        for place in self._places:
            place.open()

    async def close(self) -> None:
        """Close all doors; runners end, and with them what they run."""
        for place in self._places:
            place.close()

    @property
    def usable(self) -> int:
        """How many slots have a runner, be they free or taken."""
        return sum(place.usable for place in self._places)

    def claim_now(self) -> Slot | None:
        """A slot that is free and that nobody waits for."""
        if any(not waiting.done() for waiting in self._waiting):
            return None
        return next((place.claim() for place in self._places if place.free), None)

    async def claim(self) -> Slot:
        """Wait for a free slot; who asked first gets the first."""
        waiting: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._give_out()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                waiting.result().release()
            raise

    def _give_out(self) -> None:
        free = deque(place for place in self._places if place.free)
        while free and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(free.popleft().claim())

    def _look(self) -> None:
        self._give_out()
        if self.usable != self._usable_before:
            self._usable_before = self.usable
            self.on_change()
