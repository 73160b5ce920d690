"""The log of a test in this agent's own pod: pipe → file → api.

The test writes into a pipe that is emptied at once, whatever becomes of its log: neither a slow api nor a full disk
holds it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from dawg_agent.logs import AGAIN, GATHER, PIECE, StoredLog
from dawg_agent.upload import Door, DoorRefused, LogBehind
from dawg_orchestrator.resources.protocol import AttemptRef

LIMIT = 64 * 1024 * 1024  # bytes of a log that are kept, as by the api
_PIPE = 1024 * 1024  # bytes that a test can write while the agent does something else


class Spool:
    """One test's output. ``writer`` is for the test; ``ended`` once nobody can write any more."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._reader, self.writer = os.pipe()
        self._is_writer_open = True
        with contextlib.suppress(OSError):  # there is a limit for all pipes of a user together
            fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, _PIPE)
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._pump)
        self._file: BinaryIO | None = None  # many tests write nothing
        self._written = 0
        self._last = b"\n"
        self._cut = b""  # the line that ends a log that is not whole
        self._is_forgotten = False
        self._changed = asyncio.Event()
        self.ended = False

    @property
    def size(self) -> int:
        """How long the log is by now."""
        return self._written + len(self._cut)

    def close_writer(self) -> None:
        """Close our copy of the write end, once the test has its own."""
        if self._is_writer_open:
            self._is_writer_open = False
            os.close(self.writer)

    def read(self, offset: int, most: int) -> bytes:
        """Return what stands at an offset, at least some of it."""
        if self._file is not None and offset < self._written:
            return os.pread(self._file.fileno(), min(most, self._written - offset), offset)
        return self._cut[offset - self._written :][:most]

    async def gathered(self, offset: int, enough: int, within: float) -> None:
        """Wait for something beyond an offset, and then some seconds for more; not longer than to the end."""
        await self._until(lambda: self.size > offset)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._until(lambda: self.size >= offset + enough)

    async def drained(self, within: float) -> bool:
        """Wait some seconds for the end of all writers; return whether it has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._until(lambda: False)
        return self.ended

    def stop(self) -> None:
        """Take what has been written, and end, whoever may still hold the write end."""
        if not self.ended:
            self._pump()
        if not self.ended:
            self._end()

    def forget(self) -> None:
        """Delete the log; what is still written is read and thrown away."""
        self._is_forgotten = True
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not (self.ended or holds()):
            self._changed.clear()
            await self._changed.wait()

    def _pump(self) -> None:
        try:
            chunk = os.read(self._reader, _PIPE)
        except BlockingIOError:
            return
        if not chunk:
            self._end()
        elif not self._is_forgotten and not self._cut:
            self._keep(chunk)
        self._changed.set()

    def _end(self) -> None:
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self.ended = True
        self._changed.set()

    def _keep(self, chunk: bytes) -> None:
        room = self._limit - self._written
        try:
            self._write(memoryview(chunk)[:room])
        except OSError as error:
            self._cut_off(f"the log was cut: {error.strerror}")
        else:
            if len(chunk) > room:
                self._cut_off(f"the log was cut at {self._limit >> 20} MiB")

    def _write(self, data: memoryview) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        while data:
            size = os.write(self._file.fileno(), data)
            self._written += size
            self._last = bytes(data[size - 1 : size])
            data = data[size:]

    def _cut_off(self, why: str) -> None:
        begin = b"" if self._last == b"\n" else b"\n"
        self._cut = begin + f"dawg: {why}\n".encode()


class SpoolCarrier:
    """Carries a spool to the api while it grows. ``stored`` says whether the api has all of it.

    ``where`` is what the api knows the log by.
    """

    def __init__(self, spool: Spool, door: Door, attempt: AttemptRef, where: Mapping[str, str]) -> None:
        self._spool = spool
        self._log = StoredLog(door, attempt, where)
        self.stored = False

    async def carry(self) -> None:
        """Carry until the log is complete, or refused for good; then the spool is deleted."""
        try:
            while not self.stored:
                try:
                    self.stored = await self._carry_more()
                except LogBehind as behind:
                    self._log.offset = behind.size
                except DoorRefused as error:
                    if self._log.is_refused(error):
                        return
                    await asyncio.sleep(AGAIN)
        except asyncio.CancelledError:
            self._spool.stop()
            raise
        finally:
            self._spool.forget()

    async def _carry_more(self) -> bool:
        """Bring the next piece as soon as it is there; return whether it was the last."""
        spool, offset = self._spool, self._log.offset
        await spool.gathered(offset, PIECE, GATHER)
        piece = spool.read(offset, PIECE)
        final = spool.ended and offset + len(piece) == spool.size
        if spool.size:  # of a test that wrote nothing nothing is said
            await self._log.append(piece, final=final)
        return final
