"""Blobs on a local disk, under one folder and for one process.

A file appears whole or not at all: it is written under a temporary name, synced and renamed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store.blobs import BlobKey, NoSpace, Stored, TooLarge, blob_place, check_sha256, run_place

_READ = 256 * 1024
_UNSENT = "incoming"
_ABANDONED_SECONDS = 3600.0  # an old process that is just ending may be receiving what is younger


class DiskBlobs:
    """Blobs on a local file system, which keeps at least ``free_space_floor`` bytes free."""

    def __init__(self, root: Path, free_space_floor: int) -> None:
        self.root = root
        self._floor = free_space_floor

    @classmethod
    def open(cls, root: Path, free_space_floor: int) -> DiskBlobs:
        """Make the folder, and throw away what killed processes had half received; StoreError if it cannot be used."""
        incoming = root / _UNSENT
        try:
            incoming.mkdir(parents=True, exist_ok=True)
            for left in incoming.iterdir():
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"DAWG_DATA_DIR: {root} cannot be used: {error}") from error
        return cls(root, free_space_floor)

    async def put(
        self, key: BlobKey, content: AsyncIterator[bytes], *, limit: int, sha256: str | None = None
    ) -> Stored:
        """Receive into a temporary file, check it, then rename it over what was there."""
        temporary = self.root / _UNSENT / uuid4().hex
        try:
            stored = await self._receive(temporary, content, limit)
            check_sha256(key, stored.sha256, sha256)
            await asyncio.to_thread(_place, temporary, self.root / blob_place(key))
        except OSError as error:
            raise StoreError(f"the file cannot be stored: {error.strerror or error}") from error
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)
        return stored

    async def read(self, key: BlobKey) -> AsyncIterator[bytes]:
        """The file in pieces."""
        path = self.root / blob_place(key)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except OSError as error:
            raise StoreError(f"{key.path} is not in the store any more") from error
        try:
            while piece := await asyncio.to_thread(file.read, _READ):
                yield piece
        finally:
            await asyncio.to_thread(file.close)

    async def delete_run(self, run: str) -> None:
        """Remove the run's folder."""
        await asyncio.to_thread(shutil.rmtree, self.run_folder(run), ignore_errors=True)

    def run_folder(self, run: str) -> Path:
        """The folder of all that a run left."""
        return self.root / run_place(run)

    async def check_space(self, wanted: int = 0) -> None:
        """NoSpace when so many bytes more would leave less than the floor."""
        free = (await asyncio.to_thread(shutil.disk_usage, self.root)).free
        if free - wanted < self._floor:
            raise NoSpace(
                f"{free // 2**20} MiB are free and {self._floor // 2**20} MiB must stay so;"
                " enlarge the api's volume or shorten the retention"
            )

    async def _receive(self, temporary: Path, content: AsyncIterator[bytes], limit: int) -> Stored:
        digest, size, unchecked = hashlib.sha256(), 0, 0
        await self.check_space()
        with await asyncio.to_thread(temporary.open, "xb") as file:
            async for piece in content:
                size += len(piece)
                unchecked += len(piece)
                if size > limit:
                    raise TooLarge(limit)
                if unchecked > 16 * 2**20:
                    await self.check_space()
                    unchecked = 0
                await asyncio.to_thread(_append, file, digest, piece)
            await asyncio.to_thread(_sync, file)
        return Stored(size, digest.hexdigest())


def _append(file: BinaryIO, digest: hashlib._Hash, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _place(temporary: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
