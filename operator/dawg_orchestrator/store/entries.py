"""What update-dashboard steps show. An entry goes with its run's history."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Table, and_, or_, select

from dawg_orchestrator.resources.protocol import DashboardEntry
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database, Row
from dawg_orchestrator.store.testrun import storable

_ENTRIES = cast("Table", tables.DashboardEntry.__table__)


@dataclass(frozen=True, slots=True)
class EntryKey:
    """Which step's entry, and when it was made: the place in the order of the list."""

    created: datetime
    run: str
    index: int


class Entries:
    """Rows of the table ``dashboard_entries``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, namespace: str, run: str, index: int, entry: DashboardEntry) -> None:
        """Show this for the step; the run's row is there."""
        row = {
            "run": run, "index": index, "namespace": namespace, "run_name": entry.run, "workflow": entry.workflow,
            "task": storable(entry.task) or "", "created": entry.created_at, "level": entry.level,
            "title": storable(entry.title) or "", "text": storable(entry.text) or "",
            "link": storable(entry.link) or "",
        }  # fmt: skip
        async with self._database.writing() as connection:
            await self._database.upsert(connection, _ENTRIES, [row])

    async def page(self, namespaces: Collection[str], limit: int, before: EntryKey | None = None) -> list[Row]:
        """Entries, newest first."""
        query = select(_ENTRIES).where(_ENTRIES.c.namespace.in_(namespaces))
        created, run, index = _ENTRIES.c.created, _ENTRIES.c.run, _ENTRIES.c.index
        if before is not None:
            same_run = and_(run == before.run, index < before.index)
            earlier = or_(created < before.created, and_(created == before.created, or_(run < before.run, same_run)))
            query = query.where(created <= before.created, earlier)
        return await self._database.rows(query.order_by(created.desc(), run.desc(), index.desc()).limit(limit))
