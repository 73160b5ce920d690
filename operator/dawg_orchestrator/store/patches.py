"""Changes that no server has yet: kept under the SHA-256 of their bytes, of each namespace apart.

The row is written before the bytes, and deleted after them within one transaction: whoever brings the same patch at
that moment waits, and then stores it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import cast

from sqlalchemy import Table, delete, select

from dawg_orchestrator.resources.testrun import MAX_PATCH_BYTES
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.blobs import BlobKey, Blobs
from dawg_orchestrator.store.database import Database, Row

_FORGOTTEN_AT_ONCE = 100
_PATCHES = cast("Table", tables.Patch.__table__)


class Patches:
    """Rows of the table ``patches``, and their bytes in a blob store."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def put(self, namespace: str, patch: bytes, now: datetime) -> str:
        """Keep a patch, and return its SHA-256; one that is there already is kept for longer."""
        sha256 = hashlib.sha256(patch).hexdigest()
        row = {"namespace": namespace, "sha256": sha256, "size": len(patch), "received": now}
        async with self._database.writing() as connection:
            await self._database.upsert(connection, _PATCHES, [row])
        await self._blobs.put(_key(namespace, sha256), _whole(patch), limit=MAX_PATCH_BYTES, sha256=sha256)
        return sha256

    async def find(self, namespace: str, sha256: str) -> Row | None:
        """The row of a patch."""
        mine = (_PATCHES.c.namespace == namespace) & (_PATCHES.c.sha256 == sha256)
        return await self._database.first(select(_PATCHES).where(mine))

    def read(self, namespace: str, sha256: str) -> AsyncIterator[bytes]:
        """The bytes of a patch; StoreError when they are not there."""
        return self._blobs.read(_key(namespace, sha256))

    async def forget(self, before: datetime) -> int:
        """Delete some of those that came last before then; return how many."""
        old = select(_PATCHES).where(_PATCHES.c.received < before).limit(_FORGOTTEN_AT_ONCE)
        return sum([await self._forget(row, before) for row in await self._database.rows(old)])

    async def _forget(self, row: Row, before: datetime) -> bool:
        mine = (_PATCHES.c.namespace == row["namespace"]) & (_PATCHES.c.sha256 == row["sha256"])
        async with self._database.writing() as connection:
            gone = await connection.execute(delete(_PATCHES).where(mine, _PATCHES.c.received < before))
            if gone.rowcount:
                await self._blobs.delete_run(_key(row["namespace"], row["sha256"]).run)
        return bool(gone.rowcount)


def _key(namespace: str, sha256: str) -> BlobKey:
    """A place of its own, which no uid of a run can name: uids have no slashes."""
    return BlobKey(f"patch/{namespace}/{sha256}", 0, 0, "patch", sha256, version="patch")


async def _whole(patch: bytes) -> AsyncIterator[bytes]:
    yield patch
