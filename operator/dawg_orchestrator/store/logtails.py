"""Logs that several processes take: the newest bytes are rows, the rest are segments in the blob store.

    segment 0 │ segment 1 │ … │ tail: rows of log_tails           what is before ``sealed`` is in segments,
    ──────────┴───────────┴───┴─────────────────────────► size    whole ones but for the last of a log that ended

Bytes are accepted with the log's row locked, so what agents send to two processes never mixes. Accepted bytes never
change: whoever seals a segment writes the same one, and an upload that is repeated seals what was left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dawg_orchestrator.store import tables
from dawg_orchestrator.store.blobs import BlobKey, Blobs
from dawg_orchestrator.store.database import Database
from dawg_orchestrator.store.logs import LOGS, LogKey, LogState, add_bytes, log_row

SEGMENT = 4 * 2**20
_TAILS = cast("Table", tables.LogTail.__table__)


class LogTails:
    """Rows of the table ``log_tails``, and blobs of kind ``log``."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def append(self, key: LogKey, offset: int, data: bytes, *, final: bool) -> tuple[LogState, LogState]:
        """Accept bytes in one transaction, and then seal what is due; no transaction waits for the blob store."""
        async with self._database.writing() as connection:
            before, sealed = await self._locked(connection, key)
            after, new = add_bytes(before, offset, data, final=final)
            if new:
                await connection.execute(insert(_TAILS).values(start=before.size, data=new, **_name(key)))
            if after != before:
                state = {"size": after.size, "complete": after.complete, "truncated": after.truncated}
                await connection.execute(update(LOGS).where(*log_row(key)).values(**state))
        if _due(after, sealed) > sealed:
            await self._seal(key)
        return before, after

    async def read(self, key: LogKey, offset: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from segments and tail, as these are at each step."""
        while offset < end:
            began = offset
            async for piece in self._some(key, offset):
                some = piece[: end - offset]
                offset += len(some)
                yield some
                if offset == end:
                    return
            if offset == began:
                return

    async def _some(self, key: LogKey, offset: int) -> AsyncIterator[bytes]:
        """What can be read from one segment, or from the tail."""
        async with self._database.reading() as connection:
            sealed = (await connection.execute(select(LOGS.c.sealed).where(*log_row(key)))).scalar() or 0
            if offset >= sealed:
                tail = await self._tail(connection, key, offset)
        if offset >= sealed:
            yield tail
            return
        number, skipped = divmod(offset, SEGMENT)
        async for piece in self._blobs.read(_segment(key, number)):
            if len(piece) > skipped:
                yield piece[skipped:]
            skipped = max(0, skipped - len(piece))

    async def _locked(self, connection: AsyncConnection, key: LogKey) -> tuple[LogState, int]:
        """The state and how much is sealed, nobody else's until the transaction ends."""
        query = select(LOGS.c.size, LOGS.c.complete, LOGS.c.truncated, LOGS.c.sealed).where(*log_row(key))
        row = (await connection.execute(query.with_for_update())).first()
        if row is None:
            empty = {"size": 0, "complete": False, "truncated": False, "sealed": 0}
            await self._database.insert_if_absent(connection, LOGS, _name(key) | empty)
            row = (await connection.execute(query.with_for_update())).one()
        size, complete, truncated, sealed = row
        return LogState(size, complete, truncated), sealed

    async def _seal(self, key: LogKey) -> None:
        """Write the segments that are due, and then let the tail begin behind them."""
        async with self._database.writing() as connection:
            state, sealed = await self._locked(connection, key)
            due = _due(state, sealed)
            tail = await self._tail(connection, key, sealed)
        for start in range(sealed, due, SEGMENT):
            segment = tail[start - sealed : min(start + SEGMENT, due) - sealed]
            await self._blobs.put(_segment(key, start // SEGMENT), _once(segment), limit=SEGMENT)
        async with self._database.writing() as connection:
            _, sealed_meanwhile = await self._locked(connection, key)
            if sealed_meanwhile < due:
                await self._begin_tail(connection, key, due)

    async def _begin_tail(self, connection: AsyncConnection, key: LogKey, start: int) -> None:
        rest = await self._tail(connection, key, start)
        await connection.execute(update(LOGS).where(*log_row(key)).values(sealed=start))
        await connection.execute(delete(_TAILS).where(*_tail_of(key)))
        if rest:
            await connection.execute(insert(_TAILS).values(start=start, data=rest, **_name(key)))

    async def _tail(self, connection: AsyncConnection, key: LogKey, start: int) -> bytes:
        """The tail's bytes from a place on. What came before there was a bucket is elsewhere: empty lines here."""
        query = select(_TAILS.c.start, _TAILS.c.data).where(
            *_tail_of(key), _TAILS.c.start + func.length(_TAILS.c.data) > start
        )
        rows = (await connection.execute(query.order_by(_TAILS.c.start))).all()
        missing = b"\n" * max(0, rows[0].start - start) if rows else b""
        return missing + b"".join(bytes(data[max(0, start - begun) :]) for begun, data in rows)


def _due(state: LogState, sealed: int) -> int:
    """Up to where the log should be sealed: whole segments, and all of it once nothing more is kept."""
    if state.complete or state.truncated:
        return state.readable
    return sealed + (state.size - sealed) // SEGMENT * SEGMENT


def _segment(key: LogKey, number: int) -> BlobKey:
    return BlobKey(key.run, key.index, key.attempt, "log", str(number), version="sealed")


def _name(key: LogKey) -> dict[str, Any]:
    return {"run": key.run, "index": key.index, "attempt": key.attempt}


def _tail_of(key: LogKey) -> tuple[ColumnElement[bool], ...]:
    return _TAILS.c.run == key.run, _TAILS.c.index == key.index, _TAILS.c.attempt == key.attempt


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
