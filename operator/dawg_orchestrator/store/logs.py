"""Logs of attempts, appended by offset, so that another agent goes on where the first one stopped.

The row says how much was accepted; where the bytes are kept depends on how many processes take them (``LogBytes``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, cast
from weakref import WeakValueDictionary

from sqlalchemy import ColumnElement, Table, select

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database, Row

CAP = 64 * 2**20
MARKER = b"\n[dawg: the log is longer than 64 MiB; the rest was left out]\n"
LOGS = cast("Table", tables.Log.__table__)


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


class LogBytes(Protocol):
    """Where the bytes of logs are kept."""

    async def append(self, key: LogKey, offset: int, data: bytes, *, final: bool) -> tuple[LogState, LogState]:
        """Add bytes and keep the row in step; the state before and after. OffsetGap, NoSpace, StoreError."""
        ...

    def read(self, key: LogKey, offset: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from ``offset`` to ``end``, in pieces; fewer if they are not there."""
        ...


class Logs:
    """Append to logs and read them while they grow."""

    def __init__(self, database: Database, kept: LogBytes) -> None:
        self._database = database
        self._kept = kept
        self._growing: WeakValueDictionary[LogKey, asyncio.Condition] = WeakValueDictionary()

    async def state(self, key: LogKey) -> LogState:
        """How far the log has come; empty if nothing has arrived."""
        return await log_state(self._database, key)

    async def begun(self, key: LogKey) -> bool:
        """Whether anything of it has arrived, be it only its end."""
        return await self.state(key) != LogState()

    async def append(self, key: LogKey, offset: int, data: bytes, *, final: bool = False) -> LogState:
        """Add bytes that belong at ``offset``; what is there already is skipped. OffsetGap, NoSpace."""
        changed = self._condition(key)
        async with changed:
            before, after = await self._kept.append(key, offset, data, final=final)
            if after != before:
                changed.notify_all()
            return after

    async def newest_attempt(self, run: str, index: int) -> int | None:
        """The newest attempt of a task that has a log."""
        query = select(LOGS.c.attempt).where(LOGS.c.run == run, LOGS.c.index == index)
        async with self._database.reading() as connection:
            attempt: int | None = (await connection.execute(query.order_by(LOGS.c.attempt.desc()).limit(1))).scalar()
        return attempt

    async def of_run(self, run: str) -> list[Row]:
        """The rows of all logs of a run."""
        query = select(LOGS).where(LOGS.c.run == run).order_by(LOGS.c.index, LOGS.c.attempt)
        return await self._database.rows(query)

    def read(self, key: LogKey, offset: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from ``offset`` to ``end``, in pieces."""
        return self._kept.read(key, offset, end)

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


async def log_state(database: Database, key: LogKey) -> LogState:
    """The state as the row has it."""
    query = select(LOGS.c.size, LOGS.c.complete, LOGS.c.truncated).where(*log_row(key))
    row = await database.first(query)
    return LogState(**row) if row is not None else LogState()


def log_row(key: LogKey) -> tuple[ColumnElement[bool], ...]:
    """What selects the row of a log."""
    return LOGS.c.run == key.run, LOGS.c.index == key.index, LOGS.c.attempt == key.attempt


def add_bytes(before: LogState, offset: int, data: bytes, *, final: bool) -> tuple[LogState, bytes]:
    """The state after data came for ``offset``, and what of it is to be kept at ``before.size``. OffsetGap."""
    if offset > before.size:
        raise OffsetGap(before.size)
    new = data[before.size - offset :] if not before.complete else b""
    size = before.size + len(new)
    after = LogState(size, before.complete or final, before.truncated or size > CAP)
    if before.truncated:
        return after, b""
    return after, new[: CAP - before.size] + MARKER if after.truncated else new
