"""Full reports: the JSON as it was sent in the blob store, its cases as rows for the history of single tests."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import math
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dawg_orchestrator.resources.results import FullReport, Outcome, TestCase
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.blobs import BlobKey, Blobs
from dawg_orchestrator.store.database import Database, Row
from dawg_orchestrator.store.testrun import storable

MAX_REPORT_BYTES = 64 * 2**20
_MESSAGE = 1000
_DETAILS = 4000  # characters of a stack trace in the rows; the report itself has the whole
_NAME = 2000
_CASES_AT_ONCE = 5000
_REPORTS = cast("Table", tables.Report.__table__)
_CASES = cast("Table", tables.TestCase.__table__)
_RUNS = cast("Table", tables.Run.__table__)


class Reports:
    """Rows of the tables ``reports`` and ``test_cases``."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def put(
        self, run: str, index: int, attempt: int, *, namespace: str, body: bytes, report: FullReport, now: datetime
    ) -> str:
        """Store a report over what was there and return its sha256; the same report twice changes nothing."""
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
        if await self._sha256(run, index, attempt) == sha256:
            return sha256
        packed = await asyncio.to_thread(gzip.compress, body, 5, mtime=0)
        stored = await self._blobs.put(_blob(run, index, attempt), _once(packed), limit=MAX_REPORT_BYTES * 2)
        rows = await asyncio.to_thread(lambda: [_case_row(namespace, at, case) for at, case in enumerate(report.cases)])
        head = {"run": run, "index": index, "attempt": attempt, "sha256": sha256, "received": now,
                "version": stored.version, "truncated": report.truncated, **_counts(report)}  # fmt: skip
        async with self._database.writing() as connection:
            await self._replace(connection, head, rows)
        return sha256

    async def read(self, run: str, index: int, attempt: int | None = None) -> tuple[Row, bytes] | None:
        """The row and the JSON of a report, of the newest attempt that has one unless another is named."""
        query = select(_REPORTS).where(_REPORTS.c.run == run, _REPORTS.c.index == index)
        if attempt is not None:
            query = query.where(_REPORTS.c.attempt == attempt)
        row = await self._database.first(query.order_by(_REPORTS.c.attempt.desc()).limit(1))
        if row is None:
            return None
        blob = _blob(run, index, row["attempt"], row["version"])
        packed = b"".join([piece async for piece in self._blobs.read(blob)])
        return row, await asyncio.to_thread(gzip.decompress, packed)

    async def history(self, test: int, limit: int) -> list[Row]:
        """One test's results, newest first; ``test`` is tables.test_number()."""
        newest = select(_CASES).where(_CASES.c.test == test).order_by(_CASES.c.report.desc(), _CASES.c.position)
        cases = newest.limit(limit).subquery()
        query = (
            select(cases, _REPORTS.c.run, _REPORTS.c.index, _REPORTS.c.attempt, _REPORTS.c.received, _RUNS.c.commit)
            .join(_REPORTS, _REPORTS.c.id == cases.c.report)
            .join(_RUNS, _RUNS.c.uid == _REPORTS.c.run)
            .order_by(cases.c.report.desc(), cases.c.position)
        )
        return await self._database.rows(query)

    async def _sha256(self, run: str, index: int, attempt: int) -> str | None:
        async with self._database.reading() as connection:
            query = select(_REPORTS.c.sha256).where(*_attempt(run, index, attempt))
            return (await connection.execute(query)).scalar()

    async def _replace(self, connection: AsyncConnection, head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        where = _attempt(head["run"], head["index"], head["attempt"])
        old = (await connection.execute(select(_REPORTS.c.id).where(*where))).scalar()
        if old is not None:
            await connection.execute(delete(_CASES).where(_CASES.c.report == old))
            await connection.execute(delete(_REPORTS).where(_REPORTS.c.id == old))
        number = (await connection.execute(insert(_REPORTS).values(head).returning(_REPORTS.c.id))).scalar_one()
        for start in range(0, len(rows), _CASES_AT_ONCE):
            some = [{"report": number, **row} for row in rows[start : start + _CASES_AT_ONCE]]
            await connection.execute(insert(_CASES), some)


def _attempt(run: str, index: int, attempt: int) -> tuple[Any, Any, Any]:
    return _REPORTS.c.run == run, _REPORTS.c.index == index, _REPORTS.c.attempt == attempt


def _blob(run: str, index: int, attempt: int, version: str = "") -> BlobKey:
    return BlobKey(run, index, attempt, "report", "report.json.gz", version)


def _case_row(namespace: str, position: int, case: TestCase) -> dict[str, Any]:
    return {
        "position": position,
        "test": tables.test_number(namespace, case.suite, case.classname, case.name),
        "suite": storable(case.suite, _NAME) or "",
        "classname": storable(case.classname, _NAME) or "",
        "name": storable(case.name, _NAME) or "",
        "file": storable(case.file, _NAME),
        "outcome": case.outcome.value,
        "duration": case.duration if math.isfinite(case.duration) else 0.0,
        "message": storable(case.message, _MESSAGE),
        "details": storable(case.details, _DETAILS),
    }


def _counts(report: FullReport) -> dict[str, int]:
    counted = Counter(case.outcome for case in report.cases)
    return {"total": len(report.cases), **{outcome.value: counted[outcome] for outcome in Outcome}}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
