"""Files that attempts leave behind: rows about them here, their bytes in a blob store."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import PurePosixPath
from typing import cast
from weakref import WeakValueDictionary

from sqlalchemy import Table, select

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.blobs import BlobKey, Blobs, Stored
from dawg_orchestrator.store.database import Database, Row

KINDS = ("artifact", "coverage", "junit", "handed")
_MAX_PATH = 1024
_ARTIFACTS = cast("Table", tables.Artifact.__table__)


def check_path(path: str) -> str:
    """The path if it stays below a folder wherever it is unpacked; InvalidSpec says what is wrong with it."""
    parts = path.split("/")
    if not path or len(path) > _MAX_PATH:
        raise InvalidSpec("path", f"a path has 1 to {_MAX_PATH} characters")
    if any(ord(character) < 32 or character == "\\" or "\ud800" <= character <= "\udfff" for character in path):
        raise InvalidSpec("path", "a path has no control characters and no backslashes")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidSpec("path", "a path is relative, without empty parts, '.' and '..'")
    return path


class Artifacts:
    """Put, find and list files of runs."""

    def __init__(self, database: Database, blobs: Blobs, max_file_bytes: int) -> None:
        self._database = database
        self._blobs = blobs
        self._max_file_bytes = max_file_bytes
        self._busy: WeakValueDictionary[BlobKey, asyncio.Lock] = WeakValueDictionary()

    async def put(
        self, key: BlobKey, content: AsyncIterator[bytes], *, now: datetime, sha256: str | None = None
    ) -> Stored:
        """Store a file over what was there under the same key; bytes and row always belong together."""
        check_path(key.path)
        async with self._alone(key):
            stored = await self._blobs.put(key, content, limit=self._max_file_bytes, sha256=sha256)
            row = {
                "run": key.run, "index": key.index, "attempt": key.attempt, "kind": key.kind, "path": key.path,
                "size": stored.size, "sha256": stored.sha256, "media_type": media_type(key.path), "received": now,
                "version": stored.version,
            }  # fmt: skip
            async with self._database.writing() as connection:
                await self._database.upsert(connection, _ARTIFACTS, [row])
        return stored

    async def find(self, key: BlobKey) -> Row | None:
        """The row of a file."""
        query = select(_ARTIFACTS).where(
            _ARTIFACTS.c.run == key.run, _ARTIFACTS.c.index == key.index, _ARTIFACTS.c.attempt == key.attempt,
            _ARTIFACTS.c.kind == key.kind, _ARTIFACTS.c.path == key.path,
        )  # fmt: skip
        return await self._database.first(query)

    async def find_handed(self, run: str, index: int, path: str) -> Row | None:
        """The row of a file handed on to later tasks, of the newest attempt that has it."""
        query = (
            select(_ARTIFACTS)
            .where(
                _ARTIFACTS.c.run == run, _ARTIFACTS.c.index == index,
                _ARTIFACTS.c.kind == "handed", _ARTIFACTS.c.path == path,
            )
            .order_by(_ARTIFACTS.c.attempt.desc())
            .limit(1)
        )  # fmt: skip
        return await self._database.first(query)

    async def of_run(self, run: str) -> list[Row]:
        """The rows of all files of a run, but for those handed from task to task."""
        query = (
            select(_ARTIFACTS)
            .where(_ARTIFACTS.c.run == run, _ARTIFACTS.c.kind != "handed")
            .order_by(_ARTIFACTS.c.index, _ARTIFACTS.c.attempt, _ARTIFACTS.c.kind, _ARTIFACTS.c.path)
        )
        return await self._database.rows(query)

    def read(self, key: BlobKey) -> AsyncIterator[bytes]:
        """The bytes of a file."""
        return self._blobs.read(key)

    @asynccontextmanager
    async def _alone(self, key: BlobKey) -> AsyncIterator[None]:
        lock = self._busy.setdefault(key, asyncio.Lock())
        async with lock:
            yield


def key_of(row: Row) -> BlobKey:
    """The key of a row's bytes."""
    return BlobKey(row["run"], row["index"], row["attempt"], row["kind"], row["path"], row["version"])


def media_type(path: str) -> str:
    """By the name alone; the bytes are a stranger's and are never looked into."""
    return mimetypes.guess_type(PurePosixPath(path).name)[0] or "application/octet-stream"
