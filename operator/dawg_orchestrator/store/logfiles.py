"""Logs as files on the disk of the one process that takes them.

Bytes on disk beyond what the row says are a write that nobody was told of, and are written again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store.database import Database
from dawg_orchestrator.store.disk import DiskBlobs
from dawg_orchestrator.store.logs import LOGS, LogKey, LogState, add_bytes, log_state

_READ = 256 * 1024


class LogFiles:
    """Beside the files of the attempt, one for each log."""

    def __init__(self, database: Database, disk: DiskBlobs) -> None:
        self._database = database
        self._disk = disk

    async def append(self, key: LogKey, offset: int, data: bytes, *, final: bool) -> tuple[LogState, LogState]:
        """Write to the file, then say so in the row."""
        before = await log_state(self._database, key)
        after, new = add_bytes(before, offset, data, final=final)
        if new:
            await self._disk.check_space(len(new))
            await self._write(key, before.size, new)
        if after != before:
            await self._save(key, after)
        return before, after

    async def read(self, key: LogKey, offset: int, end: int) -> AsyncIterator[bytes]:
        """The file's bytes, in pieces."""
        path = self.path(key)
        while offset < end:
            piece = await asyncio.to_thread(_read_at, path, offset, min(_READ, end - offset))
            if not piece:
                return
            offset += len(piece)
            yield piece

    def path(self, key: LogKey) -> Path:
        """The file of a log."""
        return self._disk.run_folder(key.run) / str(int(key.index)) / str(int(key.attempt)) / "log"

    async def _write(self, key: LogKey, offset: int, new: bytes) -> None:
        try:
            await asyncio.to_thread(_write_at, self.path(key), offset, new)
        except OSError as error:
            raise StoreError(f"the log cannot be stored: {error.strerror or error}") from error

    async def _save(self, key: LogKey, state: LogState) -> None:
        row = {"run": key.run, "index": key.index, "attempt": key.attempt,
               "size": state.size, "complete": state.complete, "truncated": state.truncated}  # fmt: skip
        async with self._database.writing() as connection:
            await self._database.upsert(connection, LOGS, [row])


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
