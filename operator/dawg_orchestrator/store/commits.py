"""Commits in history: what runs say of them, what they are like, and whether they failed for a reason of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, Table, bindparam, delete, func, select, update

from dawg_orchestrator.learning.commitfeatures import Features, read_written, written
from dawg_orchestrator.learning.outcomes import RunOutcome
from dawg_orchestrator.learning.risksamples import Sample
from dawg_orchestrator.resources.results import Outcome
from dawg_orchestrator.resources.verdict import Verdict
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database, Row

MOST_SAMPLES = 50_000  # of a repository, the newest
MOST_RUNS = 10_000  # that are looked at for their outcome, the newest
_MOST_FAILING = 1000  # tests of a run
_AT_ONCE = 500  # SQLite bounds the parameters of a statement
_COMMIT_RUNS = cast("Table", tables.CommitRun.__table__)
_SAMPLES = cast("Table", tables.CommitSample.__table__)
_REPORTS = cast("Table", tables.Report.__table__)
_CASES = cast("Table", tables.TestCase.__table__)


class Commits:
    """Rows of the tables ``commit_runs`` and ``commit_samples``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, namespace: str, repository: str, commit: str, features: Features, seen: datetime) -> None:
        """What a commit is like. The first word stays: another run of it finds the same."""
        row = {"namespace": namespace, "repository": repository, "commit": commit, "seen": seen,
               "features": written(features), "failed": None}  # fmt: skip
        async with self._database.writing() as connection:
            await self._database.insert_if_absent(connection, _SAMPLES, row)

    async def repositories(self, namespaces: Collection[str]) -> list[tuple[str, str]]:
        """Namespace and name of each repository of which there are samples."""
        query = (
            select(_SAMPLES.c.namespace, _SAMPLES.c.repository)
            .where(_SAMPLES.c.namespace.in_(namespaces)).distinct().order_by(*_SAMPLES.c["namespace", "repository"])
        )  # fmt: skip
        return [(row["namespace"], row["repository"]) for row in await self._database.rows(query)]

    async def outcomes(self, namespace: str, repository: str, since: datetime) -> list[RunOutcome]:
        """The newest runs since then, with the tests that failed in their last attempts."""
        query = (
            select(_COMMIT_RUNS)
            .where(*_mine(_COMMIT_RUNS, namespace, repository), _COMMIT_RUNS.c.created >= since)
            .order_by(_COMMIT_RUNS.c.created.desc(), _COMMIT_RUNS.c.run).limit(MOST_RUNS)
        )  # fmt: skip
        rows = await self._database.rows(query)
        failing = await self._failing({row["run"]: row["failing"] for row in rows if row["failing"]})
        return [
            RunOutcome(
                row["commit"], row["workflow"], row["created"], _verdict(row), ran_tests=True,
                failing=failing.get(row["run"], frozenset()),
            )
            for row in rows
        ]  # fmt: skip

    async def _failing(self, tasks: Mapping[str, Mapping[str, str]]) -> dict[str, frozenset[str]]:
        """Of each run the tests that failed, by number; of tasks that failed without a report of such, their names."""
        found: dict[str, frozenset[str]] = {}
        runs = sorted(tasks)
        for start in range(0, len(runs), _AT_ONCE):
            some = runs[start : start + _AT_ONCE]
            reports = await self._last_reports(some)
            tests = await self._failed_tests(list(reports.values()))
            for run in some:
                failing: set[str] = set()
                for index, name in tasks[run].items():
                    failing |= tests.get(reports.get((run, int(index)), -1)) or {f"task {name}"}
                found[run] = frozenset(failing)
        return found

    async def _last_reports(self, runs: list[str]) -> dict[tuple[str, int], int]:
        query = select(_REPORTS.c.run, _REPORTS.c.index, _REPORTS.c.id)
        rows = await self._database.rows(query.where(_REPORTS.c.run.in_(runs)).order_by(_REPORTS.c.attempt))
        return {(row["run"], row["index"]): row["id"] for row in rows}

    async def _failed_tests(self, reports: list[int]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = defaultdict(set)
        for start in range(0, len(reports), _AT_ONCE):
            query = select(_CASES.c.report, _CASES.c.test).where(
                _CASES.c.report.in_(reports[start : start + _AT_ONCE]), _CASES.c.outcome == Outcome.FAILED.value
            )
            async with self._database.reading() as connection:
                for report, test in await connection.execute(query):
                    if len(found[report]) < _MOST_FAILING:
                        found[report].add(str(test))
        return found

    async def label(
        self, namespace: str, repository: str, failed: Mapping[str, bool], seen_since: datetime
    ) -> None:  # fmt: skip
        """Write down which commits failed for a reason of their own, if they have a sample and were seen since then."""
        statement = (
            update(_SAMPLES)
            .where(*_mine(_SAMPLES, namespace, repository), _SAMPLES.c.commit == bindparam("which"))
            .values(failed=bindparam("outcome"))
        )
        known = await self._labels(namespace, repository, failed, seen_since)
        changed = [
            {"which": commit, "outcome": failed[commit]}
            for commit in sorted(known)
            if known[commit] is not failed[commit]
        ]
        if changed:
            async with self._database.writing() as connection:
                await connection.execute(statement, changed)

    async def _labels(
        self, namespace: str, repository: str, commits: Collection[str], since: datetime
    ) -> dict[str, bool | None]:
        wanted, found = sorted(commits), dict[str, bool | None]()
        for start in range(0, len(wanted), _AT_ONCE):
            mine = _SAMPLES.c.commit.in_(wanted[start : start + _AT_ONCE]), _SAMPLES.c.seen >= since
            query = select(_SAMPLES.c.commit, _SAMPLES.c.failed).where(*_mine(_SAMPLES, namespace, repository), *mine)
            rows = await self._database.rows(query)
            found |= {row["commit"]: row["failed"] for row in rows}
        return found

    async def labelled(self, namespace: str, repository: str) -> int:
        """How many commits have an outcome."""
        query = select(func.count().label("many")).where(
            *_mine(_SAMPLES, namespace, repository), _SAMPLES.c.failed.is_not(None)
        )
        found = await self._database.first(query)
        return int(found["many"]) if found is not None else 0

    async def samples(self, namespace: str, repository: str) -> list[Sample]:
        """The newest commits with an outcome, oldest first."""
        query = (
            select(_SAMPLES.c.features, _SAMPLES.c.failed)
            .where(*_mine(_SAMPLES, namespace, repository), _SAMPLES.c.failed.is_not(None))
            .order_by(_SAMPLES.c.seen.desc(), _SAMPLES.c.commit.desc()).limit(MOST_SAMPLES)
        )  # fmt: skip
        rows: list[Row] = await self._database.rows(query)
        read = ((read_written(row["features"]), row["failed"]) for row in reversed(rows))
        return [Sample(features, failed) for features, failed in read if features is not None]

    async def forget(self, seen_before: datetime) -> int:
        """Delete samples of before then; return how many."""
        async with self._database.writing() as connection:
            done = await connection.execute(delete(_SAMPLES).where(_SAMPLES.c.seen < seen_before))
        return int(done.rowcount)


def _verdict(row: Row) -> Verdict:
    found = Verdict.of(row["verdict"])
    assert found is not None  # noqa: S101 - commit_run_of writes no others
    return found


def _mine(table: Table, namespace: str, repository: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.namespace == namespace, table.c.repository == repository
