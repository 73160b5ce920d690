"""Forget what is older than the retention, a bounded piece at a time, so that uploads never wait long.

Files go first: if the process ends in between, the rows that are left bring the next pass here again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import cast

from sqlalchemy import Table, delete, func, or_, select

from dawg_orchestrator.store import tables
from dawg_orchestrator.store.blobs import Blobs
from dawg_orchestrator.store.database import Database

RUNS_AT_ONCE = 50
_CASES_AT_ONCE = 20000
_RUNS = cast("Table", tables.Run.__table__)
_REPORTS = cast("Table", tables.Report.__table__)
_CASES = cast("Table", tables.TestCase.__table__)


class Retention:
    """Deletes runs by age, with all that belongs to them."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def forget(self, older_than: datetime, *, alive: Collection[str]) -> int:
        """Delete up to RUNS_AT_ONCE runs that ended (or, unfinished, began) before then; return how many.

        ``alive``: uids of runs whose TestRun still exists; they stay, for their objects would bring them back.
        """
        uids = await self._expired(older_than, alive)
        for uid in uids:
            await self._blobs.delete_run(uid)
            await self._delete_cases(uid)
            async with self._database.writing() as connection:
                await connection.execute(delete(_RUNS).where(_RUNS.c.uid == uid))
        return len(uids)

    async def _expired(self, older_than: datetime, alive: Collection[str]) -> list[str]:
        ended = func.coalesce(_RUNS.c.finished, _RUNS.c.created)
        query = (
            select(_RUNS.c.uid)
            .where(_RUNS.c.created < older_than, or_(_RUNS.c.finished.is_(None), ended < older_than))
            .order_by(_RUNS.c.created)
        )
        chosen: list[str] = []
        async with self._database.reading() as connection, connection.stream(query) as found:
            async for (uid,) in found:
                if uid not in alive:
                    chosen.append(uid)
                if len(chosen) >= RUNS_AT_ONCE:
                    break
        return chosen

    async def _delete_cases(self, uid: str) -> None:
        async with self._database.reading() as connection:
            reports = list((await connection.execute(select(_REPORTS.c.id).where(_REPORTS.c.run == uid))).scalars())
        for report in reports:
            position: int | None = 0
            while position is not None:
                position = await self._delete_some_cases(report, position)

    async def _delete_some_cases(self, report: int, position: int) -> int | None:
        """Delete the cases of a report from a position on, and say where to go on."""
        end = position + _CASES_AT_ONCE
        mine = _CASES.c.report == report
        async with self._database.writing() as connection:
            await connection.execute(delete(_CASES).where(mine, _CASES.c.position < end))
            more = (await connection.execute(select(_CASES.c.position).where(mine).limit(1))).first()
        return end if more is not None else None
