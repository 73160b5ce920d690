"""Everything the api remembers, opened and closed as one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from dawg_orchestrator.settings import S3Settings
from dawg_orchestrator.store.artifacts import Artifacts
from dawg_orchestrator.store.blobs import Blobs
from dawg_orchestrator.store.commits import Commits
from dawg_orchestrator.store.database import Database
from dawg_orchestrator.store.deliveries import Deliveries
from dawg_orchestrator.store.disk import DiskBlobs
from dawg_orchestrator.store.entries import Entries
from dawg_orchestrator.store.logfiles import LogFiles
from dawg_orchestrator.store.logs import LogBytes, Logs
from dawg_orchestrator.store.logtails import LogTails
from dawg_orchestrator.store.patches import Patches
from dawg_orchestrator.store.reports import Reports
from dawg_orchestrator.store.retention import Retention
from dawg_orchestrator.store.riskmodels import RiskModels
from dawg_orchestrator.store.runs import Runs
from dawg_orchestrator.store.stepstates import StepStates
from dawg_orchestrator.store.testrecords import TestRecords
from dawg_orchestrator.store.wakes import Wakes


@dataclass(frozen=True)
class History:
    """The stores, one for each kind of thing."""

    database: Database
    blobs: Blobs
    runs: Runs
    reports: Reports
    artifacts: Artifacts
    logs: Logs
    retention: Retention
    step_states: StepStates
    entries: Entries
    deliveries: Deliveries
    wakes: Wakes
    patches: Patches
    commits: Commits
    risk_models: RiskModels
    test_records: TestRecords

    @classmethod
    async def open(
        cls, database_url: str, data_dir: Path, *, max_file_bytes: int, free_space_floor: int,
        s3: S3Settings | None = None,
    ) -> History:  # fmt: skip
        """Open the bucket, or else the folder, and the database, and migrate it; StoreError says what is in the way."""
        blobs: Blobs
        kept: LogBytes
        if s3 is not None:
            from dawg_orchestrator.store.s3 import (
                S3Blobs,
            )  # its library is large, and most installations do not need it

            blobs = await S3Blobs.open(s3)
            database = await Database.open(database_url)
            kept = LogTails(database, blobs)
        else:
            blobs = disk = await asyncio.to_thread(DiskBlobs.open, data_dir / "files", free_space_floor)
            database = await Database.open(database_url)
            kept = LogFiles(database, disk)
        return cls(
            database,
            blobs,
            Runs(database),
            Reports(database, blobs),
            Artifacts(database, blobs, max_file_bytes),
            Logs(database, kept),
            Retention(database, blobs),
            StepStates(database),
            Entries(database),
            Deliveries(database),
            Wakes(database),
            Patches(database, blobs),
            Commits(database),
            RiskModels(database),
            TestRecords(database),
        )

    async def close(self) -> None:
        """Give back all connections."""
        await self.database.close()
