"""What the tests of a repository did in its newest runs, summed up in the database: by file, or else by class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Table, case, func, select

from dawg_orchestrator.resources.protocol import TestRecord
from dawg_orchestrator.resources.results import Outcome
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database

MOST_RUNS = 300  # the newest
MOST_CASES = 300_000  # of their reports; more are not summed up, beginning with the oldest
MOST_PLACES = 20_000
_COMMIT_RUNS = cast("Table", tables.CommitRun.__table__)
_REPORTS = cast("Table", tables.Report.__table__)
_CASES = cast("Table", tables.TestCase.__table__)


@dataclass
class _Sums:
    runs: int = 0
    failures: int = 0
    seconds: float = 0.0


class TestRecords:
    """Reads ``commit_runs``, ``reports`` and ``test_cases``."""

    __test__ = False

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_repository(self, namespace: str, repository: str) -> list[TestRecord]:
        """Of the newest runs, of each task its last attempt; a test counts once a report, however many cases it has."""
        workflows = await self._reports(namespace, repository)
        if not workflows:
            return []
        place = func.coalesce(func.nullif(_CASES.c.file, ""), func.nullif(_CASES.c.classname, ""), _CASES.c.suite)
        failed = func.max(case((_CASES.c.outcome == Outcome.FAILED.value, 1), else_=0))
        took = func.sum(_CASES.c.duration)
        each = (
            select(_CASES.c.report, place.label("place"), failed.label("failed"), took.label("took"))
            .where(_CASES.c.report.in_(list(workflows)), _CASES.c.outcome != Outcome.SKIPPED.value)
            .group_by(_CASES.c.report, place)
        )  # fmt: skip
        sums: dict[str, dict[str, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
        async with self._database.reading() as connection, connection.stream(each) as rows:
            async for report, where, has_failed, took in rows:
                if where and (where in sums or len(sums) < MOST_PLACES):
                    mine = sums[where][workflows[report]]
                    mine.runs, mine.failures = mine.runs + 1, mine.failures + has_failed
                    mine.seconds += max(0.0, took or 0.0)
        return [_record(where, by_workflow) for where, by_workflow in sums.items()]

    async def _reports(self, namespace: str, repository: str) -> dict[int, str]:
        """The Workflow of each report that is to be summed up."""
        newest = (
            select(_COMMIT_RUNS.c.run, _COMMIT_RUNS.c.workflow)
            .where(_COMMIT_RUNS.c.namespace == namespace, _COMMIT_RUNS.c.repository == repository)
            .order_by(_COMMIT_RUNS.c.created.desc(), _COMMIT_RUNS.c.run).limit(MOST_RUNS).subquery()
        )  # fmt: skip
        query = (
            select(_REPORTS.c.run, _REPORTS.c.index, _REPORTS.c.id, _REPORTS.c.total, newest.c.workflow)
            .join(newest, newest.c.run == _REPORTS.c.run).order_by(_REPORTS.c.attempt)
        )  # fmt: skip
        last = {(row["run"], row["index"]): row for row in await self._database.rows(query)}
        found: dict[int, str] = {}
        cases = 0
        for row in sorted(last.values(), key=lambda row: -row["id"]):
            cases += row["total"]
            if cases > MOST_CASES and found:
                break
            found[row["id"]] = row["workflow"]
        return found


def _record(place: str, by_workflow: dict[str, _Sums]) -> TestRecord:
    runs = sum(sums.runs for sums in by_workflow.values())
    return TestRecord(
        place=place,
        runs=runs,
        failures=sum(sums.failures for sums in by_workflow.values()),
        seconds=round(sum(sums.seconds for sums in by_workflow.values()) / max(1, runs), 3),
        workflows={name: (sums.runs, sums.failures) for name, sums in sorted(by_workflow.items()) if name},
    )
