"""Logs of attempts, appended on disk by offset, so that another agent goes on where the first one stopped.

The row says how much was accepted; bytes on disk beyond it are a write that nobody was told of, and are written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from weakref import WeakValueDictionary

from sqlalchemy import Table, select

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database, Row
from dawg_orchestrator.store.disk import DiskBlobs

CAP = 64 * 2**20
MARKER = b"\n[dawg: the log is longer than 64 MiB; the rest was left out]\n"
_READ = 256 * 1024
_LOGS = cast("Table", tables.Log.__table__)


@dataclass(frozen=True, slots=True)
class LogKey:
    """Whose log."""

    run: str
    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class LogState:
    """How much was accepted (bytes), whether that is all, and whether the end of it was dropped."""

    size: int = 0
    complete: bool = False
    truncated: bool = False

    @property
    def readable(self) -> int:
        """How many bytes can be read."""
        return CAP + len(MARKER) if self.truncated else self.size


class OffsetGap(StoreError):
    """The chunk begins beyond what is there; ``size`` is where to go on."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the log has {size} bytes; send from there")
        self.size = size


class Logs:
    """Append to logs and read them while they grow."""

    def __init__(self, database: Database, disk: DiskBlobs) -> None:
        self._database = database
        self._disk = disk
        self._growing: WeakValueDictionary[LogKey, asyncio.Condition] = WeakValueDictionary()

    async def state(self, key: LogKey) -> LogState:
        """How far the log has come; empty if nothing has arrived."""
        query = select(_LOGS.c.size, _LOGS.c.complete, _LOGS.c.truncated).where(
            _LOGS.c.run == key.run, _LOGS.c.index == key.index, _LOGS.c.attempt == key.attempt
        )
        row = await self._database.first(query)
        return LogState(**row) if row is not None else LogState()

    async def begun(self, key: LogKey) -> bool:
        """Whether anything of it has arrived, be it only its end."""
        return await self.state(key) != LogState()

    async def append(self, key: LogKey, offset: int, data: bytes, *, final: bool = False) -> LogState:
        """Add bytes that belong at ``offset``; what is there already is skipped. OffsetGap, NoSpace."""
        changed = self._condition(key)
        async with changed:
            before = await self.state(key)
            if offset > before.size:
                raise OffsetGap(before.size)
            new = data[before.size - offset :] if not before.complete else b""
            after = LogState(
                before.size + len(new), before.complete or final, before.truncated or before.size + len(new) > CAP
            )
            if new and not before.truncated:
                await self._disk.check_space(len(new))
                await self._write(key, before.size, new)
            if after != before or final:
                await self._save(key, after)
                changed.notify_all()
            return after

    async def newest_attempt(self, run: str, index: int) -> int | None:
        """The newest attempt of a task that has a log."""
        query = select(_LOGS.c.attempt).where(_LOGS.c.run == run, _LOGS.c.index == index)
        async with self._database.reading() as connection:
            attempt: int | None = (await connection.execute(query.order_by(_LOGS.c.attempt.desc()).limit(1))).scalar()
        return attempt

    async def of_run(self, run: str) -> list[Row]:
        """The rows of all logs of a run."""
        query = select(_LOGS).where(_LOGS.c.run == run).order_by(_LOGS.c.index, _LOGS.c.attempt)
        return await self._database.rows(query)

    async def read(self, key: LogKey, offset: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from ``offset`` to ``end``, in pieces."""
        path = self._path(key)
        while offset < end:
            piece = await asyncio.to_thread(_read_at, path, offset, min(_READ, end - offset))
            if not piece:
                return
            offset += len(piece)
            yield piece

    async def grown(self, key: LogKey, beyond: LogState, patience: float) -> LogState:
        """The state once it differs from ``beyond``, or after ``patience`` seconds as it is then."""
        changed = self._condition(key)
        async with changed:
            now = await self.state(key)
            if now != beyond:
                return now
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), patience)
        return await self.state(key)

    def _condition(self, key: LogKey) -> asyncio.Condition:
        return self._growing.setdefault(key, asyncio.Condition())

    async def _write(self, key: LogKey, offset: int, new: bytes) -> None:
        kept = new[: CAP - offset]
        if len(kept) < len(new):
            kept += MARKER
        try:
            await asyncio.to_thread(_write_at, self._path(key), offset, kept)
        except OSError as error:
            raise StoreError(f"the log cannot be stored: {error.strerror or error}") from error

    async def _save(self, key: LogKey, state: LogState) -> None:
        row = {"run": key.run, "index": key.index, "attempt": key.attempt,
               "size": state.size, "complete": state.complete, "truncated": state.truncated}  # fmt: skip
        async with self._database.writing() as connection:
            await self._database.upsert(connection, _LOGS, [row])

    def _path(self, key: LogKey) -> Path:
        return self._disk.run_folder(key.run) / str(int(key.index)) / str(int(key.attempt)) / "log"


def _write_at(path: Path, offset: int, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(descriptor)


def _read_at(path: Path, offset: int, length: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)
