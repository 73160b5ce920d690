"""What built-in steps keep between runs: a value under a key of a namespace, changed by who has read it last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database

MAX_VALUE_BYTES = 256 * 1024
MAX_KEYS = 1000  # of a namespace
_TOUCHED_EVERY = timedelta(days=1)  # being read counts as use, and need not be written down each time
_STATES = cast("Table", tables.StepState.__table__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A value and how often it was written; version 0: nothing is kept."""

    version: int = 0
    value: dict[str, Any] | None = None


class StaleVersion(StoreError):
    """Somebody has written since the version that was read."""


class TooManyKeys(StoreError):
    """The namespace keeps as much as it may."""


class ValueTooLarge(StoreError):
    """The value is larger than one may be."""


class UnstorableValue(StoreError):
    """The value is no JSON that every database takes."""


class StepStates:
    """Rows of the table ``step_states``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, namespace: str, key: str, now: datetime) -> Kept:
        """What is kept under the key."""
        mine = (_STATES.c.namespace == namespace) & (_STATES.c.key == key)
        found = await self._database.first(select(_STATES).where(mine))
        if found is None:
            return Kept()
        if found["touched"] < now - _TOUCHED_EVERY:
            async with self._database.writing() as connection:
                await connection.execute(update(_STATES).where(mine).values(touched=now))
        return Kept(found["version"], found["value"])

    async def write(self, namespace: str, key: str, read: Kept, value: dict[str, Any], now: datetime) -> Kept:
        """Keep ``value`` in place of what was ``read``; StaleVersion when that is no longer what is kept."""
        _check(value)
        row = {"namespace": namespace, "key": key, "version": read.version + 1, "value": value, "touched": now}
        async with self._database.writing() as connection:
            if read.version == 0:
                await self._check_room(connection, namespace)
                written = await self._database.insert_if_absent(connection, _STATES, row)
            else:
                mine = (_STATES.c.namespace == namespace) & (_STATES.c.key == key)
                change = update(_STATES).where(mine, _STATES.c.version == read.version).values(row)
                written = bool((await connection.execute(change)).rowcount)
        if not written:
            raise StaleVersion(f"version {read.version} is no longer what is kept under this key")
        return Kept(read.version + 1, value)

    async def forget(self, untouched_since: datetime) -> int:
        """Delete what nobody has read or written since then; return how much."""
        async with self._database.writing() as connection:
            done = await connection.execute(delete(_STATES).where(_STATES.c.touched < untouched_since))
        return int(done.rowcount)

    async def _check_room(self, connection: AsyncConnection, namespace: str) -> None:
        counting = select(func.count()).select_from(_STATES).where(_STATES.c.namespace == namespace)
        if (await connection.execute(counting)).scalar_one() >= MAX_KEYS:
            raise TooManyKeys(f"namespace {namespace} keeps {MAX_KEYS} values, which is as many as it may")


def _check(value: dict[str, Any]) -> None:
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError) as error:  # NaN, a lone surrogate, or too deep
        raise UnstorableValue(f"the value cannot be kept as JSON: {error}") from error
    if size > MAX_VALUE_BYTES:
        raise ValueTooLarge(f"the value has {size} bytes of JSON; {MAX_VALUE_BYTES} are allowed")
