"""Repositories to look at now, as webhooks say: written by the replica that takes one, read by all.

Nothing depends on a row: who misses it looks a little later by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import cast

from sqlalchemy import Table, delete, func, insert, select

from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database

MOST_AT_ONCE = 1000
_WAKES = cast("Table", tables.Wake.__table__)


class Wakes:
    """Rows of the table ``wakes``; their numbers only grow."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, namespace: str, urls: Iterable[str], now: datetime) -> None:
        """Something has happened in these repositories."""
        rows = [{"namespace": namespace, "url": url, "at": now} for url in urls]
        async with self._database.writing() as connection:
            await connection.execute(insert(_WAKES), rows)

    async def newest(self, namespace: str) -> int:
        """The number of the last one; 0 when there was none."""
        found = await self._database.first(
            select(func.max(_WAKES.c.id).label("number")).where(_WAKES.c.namespace == namespace)
        )
        return int(found["number"] or 0) if found is not None else 0

    async def since(self, namespace: str, number: int) -> tuple[int, list[str]]:
        """The repositories of all later ones, and the number of the last of these."""
        query = (
            select(_WAKES.c.id, _WAKES.c.url)
            .where(_WAKES.c.namespace == namespace, _WAKES.c.id > number)
            .order_by(_WAKES.c.id)
            .limit(MOST_AT_ONCE)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return (rows[-1].id if rows else number), list(dict.fromkeys(row.url for row in rows))

    async def forget(self, before: datetime) -> int:
        """Delete those of before then; return how many. The newest stays, so that numbers never begin anew."""
        async with self._database.writing() as connection:
            last = (await connection.execute(select(func.max(_WAKES.c.id)))).scalar()
            done = await connection.execute(delete(_WAKES).where(_WAKES.c.at < before, _WAKES.c.id < (last or 0)))
        return int(done.rowcount)
