"""Everything the api remembers, opened and closed as one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from dawg_orchestrator.store.artifacts import Artifacts
from dawg_orchestrator.store.database import Database
from dawg_orchestrator.store.disk import DiskBlobs
from dawg_orchestrator.store.logs import Logs
from dawg_orchestrator.store.reports import Reports
from dawg_orchestrator.store.retention import Retention
from dawg_orchestrator.store.runs import Runs


@dataclass(frozen=True)
class History:
    """The stores, one for each kind of thing."""

    database: Database
    disk: DiskBlobs
    runs: Runs
    reports: Reports
    artifacts: Artifacts
    logs: Logs
    retention: Retention

    @classmethod
    async def open(cls, database_url: str, data_dir: Path, *, max_file_bytes: int, free_space_floor: int) -> History:
        """Open the folder and the database, and migrate it; StoreError says what stands in the way."""
        disk = await asyncio.to_thread(DiskBlobs.open, data_dir / "files", free_space_floor)
        database = await Database.open(database_url)
        return cls(
            database,
            disk,
            Runs(database),
            Reports(database, disk),
            Artifacts(database, disk, max_file_bytes),
            Logs(database, disk),
            Retention(database, disk),
        )

    async def close(self) -> None:
        """Give back all connections."""
        await self.database.close()
