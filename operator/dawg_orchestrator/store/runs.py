"""Runs in history: recorded once they have a verdict, listed newest first, summed up for figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import BigInteger, ColumnElement, Table, and_, extract, func, literal_column, or_, select
from sqlalchemy import cast as cast_as

from dawg_orchestrator.learning.timing import CELL_SECONDS, Work, load_key
from dawg_orchestrator.resources.verdict import GREEN
from dawg_orchestrator.store import tables
from dawg_orchestrator.store.database import Database, Row
from dawg_orchestrator.store.testrun import RunRecord

_RUNS = cast("Table", tables.Run.__table__)
_TASKS = cast("Table", tables.Task.__table__)
_POOLS = cast("Table", tables.RunPool.__table__)
_COMMIT_RUNS = cast("Table", tables.CommitRun.__table__)
_DOCUMENTS = ("spec", "status")
_LISTED = tuple(column for column in _RUNS.c if column.name not in _DOCUMENTS)
_UIDS_AT_ONCE = 500  # SQLite bounds the parameters of a statement


@dataclass(frozen=True, kw_only=True)
class HistoryQuery:
    """Which runs to list. ``before`` is the (finished, uid) of the last run of the page before."""

    namespaces: tuple[str, ...]
    limit: int = 50
    name: str | None = None
    verdict: str | None = None
    before: tuple[datetime, str] | None = None


@dataclass(frozen=True)
class Figures:
    """Sums over the recorded runs: tasks that ran, how many of them well, and for how long those with times ran."""

    runs: int
    tasks_ran: int
    tasks_green: int
    tasks_timed: int
    tasks_seconds: float


@dataclass(frozen=True)
class TaskSample:
    """One task that ended well, as learning wants it; ``seconds`` from start to end."""

    namespace: str
    task: str
    image: str
    seconds: float


class Runs:
    """Rows of the tables ``runs``, ``tasks`` and ``run_pools``; what runs say of commits is written with them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, uid: str, namespace: str, name: str, now: datetime) -> None:
        """Make room for uploads of a run that is not finished; nothing happens if it is known."""
        row = {"uid": uid, "namespace": namespace, "name": name, "created": now}
        async with self._database.writing() as connection:
            await self._database.insert_if_absent(connection, _RUNS, row)

    async def record(self, records: Iterable[RunRecord]) -> None:
        """Write finished runs; repeating it changes nothing."""
        # In one order everywhere: two replicas that record the same runs wait for one another, and never both.
        ordered = sorted(records, key=lambda record: str(record.run["uid"]))
        async with self._database.writing() as connection:
            await self._database.upsert(connection, _RUNS, [record.run for record in ordered])
            await self._database.upsert(connection, _TASKS, [task for record in ordered for task in record.tasks])
            await self._database.upsert(connection, _POOLS, [pool for record in ordered for pool in record.pools])
            said = [record.commit_run for record in ordered if record.commit_run is not None]
            await self._database.upsert(connection, _COMMIT_RUNS, said)

    async def recorded(self, uids: Collection[str]) -> set[str]:
        """Those of the uids whose verdict is in history."""
        return set(await self.recorded_versions(uids))

    async def recorded_versions(self, uids: Collection[str]) -> dict[str, str | None]:
        """The resourceVersion at which each of these runs was recorded; those that are not are left out."""
        found: dict[str, str | None] = {}
        wanted = list(uids)
        async with self._database.reading() as connection:
            for start in range(0, len(wanted), _UIDS_AT_ONCE):
                some = wanted[start : start + _UIDS_AT_ONCE]
                query = select(_RUNS.c.uid, _RUNS.c.resource_version)
                query = query.where(_RUNS.c.uid.in_(some), _RUNS.c.verdict.is_not(None))
                found.update((uid, version) for uid, version in await connection.execute(query))
        return found

    async def find(self, namespace: str, name: str, uid: str | None = None) -> Row | None:
        """The newest recorded run of this name (or the one with this uid) with spec and status."""
        query = select(_RUNS).where(_RUNS.c.namespace == namespace, _RUNS.c.name == name, _RUNS.c.verdict.is_not(None))
        if uid is not None:
            query = query.where(_RUNS.c.uid == uid)
        return await self._database.first(query.order_by(_RUNS.c.created.desc(), _RUNS.c.uid).limit(1))

    async def find_uid(self, namespace: str, name: str, uid: str | None = None) -> str | None:
        """The uid of the newest run of this name that history has heard of, finished or not."""
        query = select(_RUNS.c.uid).where(_RUNS.c.namespace == namespace, _RUNS.c.name == name)
        if uid is not None:
            query = query.where(_RUNS.c.uid == uid)
        row = await self._database.first(query.order_by(_RUNS.c.created.desc(), _RUNS.c.uid).limit(1))
        return None if row is None else str(row["uid"])

    async def page(self, query: HistoryQuery) -> list[Row]:
        """Recorded runs, newest first, without their documents."""
        conditions: list[ColumnElement[bool]] = [_RUNS.c.namespace.in_(query.namespaces), _RUNS.c.verdict.is_not(None)]
        if query.name is not None:
            conditions.append(_RUNS.c.name == query.name)
        if query.verdict is not None:
            conditions.append(_RUNS.c.verdict == query.verdict)
        if query.before is not None:
            finished, uid = query.before
            earlier = or_(_RUNS.c.finished < finished, and_(_RUNS.c.finished == finished, _RUNS.c.uid < uid))
            conditions += [_RUNS.c.finished <= finished, earlier]
        statement = (
            select(*_LISTED).where(*conditions).order_by(_RUNS.c.finished.desc(), _RUNS.c.uid.desc()).limit(query.limit)
        )
        return await self._database.rows(statement)

    async def tasks(self, uid: str) -> list[Row]:
        """The tasks of a recorded run in the order of its expansion."""
        query = select(_TASKS).where(_TASKS.c.run == uid).order_by(_TASKS.c.index)
        return await self._database.rows(query)

    async def figures(self, namespaces: Collection[str]) -> Figures:
        """Sums over the recorded runs of these namespaces."""
        sums = [_RUNS.c.tasks_ran, _RUNS.c.tasks_green, _RUNS.c.tasks_timed, _RUNS.c.tasks_seconds]
        query = select(func.count(), *(func.coalesce(func.sum(column), 0) for column in sums)).where(
            _RUNS.c.namespace.in_(namespaces), _RUNS.c.verdict.is_not(None)
        )
        async with self._database.reading() as connection:
            runs, ran, green, timed, seconds = (await connection.execute(query)).one()
        return Figures(int(runs), int(ran), int(green), int(timed), float(seconds))

    async def samples(self, since: datetime, limit: int) -> list[TaskSample]:
        """The newest tasks that ended well since then."""
        query = (
            select(_RUNS.c.namespace, _TASKS.c.name, _TASKS.c.image, _TASKS.c.started, _TASKS.c.completed)
            .join(_RUNS, _RUNS.c.uid == _TASKS.c.run)
            .where(_TASKS.c.completed >= since, _TASKS.c.started.is_not(None), _TASKS.c.verdict.in_(sorted(GREEN)))
            .order_by(_TASKS.c.completed.desc())
            .limit(limit)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [
            TaskSample(namespace, name, image or "", max(0.0, (completed - started).total_seconds()))
            for namespace, name, image, started, completed in rows
        ]

    async def work(self, since: datetime) -> list[Work]:
        """What the runs since then took of each pool; runs of one time are one, so that many cost little."""
        whose = [_RUNS.c.namespace, _POOLS.c.pool, _RUNS.c.schedule]
        began, ended = _cell(_RUNS.c.started), _cell(_RUNS.c.finished)
        busy, took = func.sum(_POOLS.c.seconds), func.sum(_epoch(_RUNS.c.finished) - _epoch(_RUNS.c.started))
        sums = [func.count().label("runs"), busy.label("busy"), took.label("took")]
        query = (
            select(*whose, began.label("began"), ended.label("ended"), *sums)
            .join(_POOLS, _POOLS.c.run == _RUNS.c.uid)
            .where(_RUNS.c.created >= since, _RUNS.c.started >= since, _RUNS.c.verdict.is_not(None))
            .group_by(*whose, began, ended)
        )
        return [
            Work(
                load_key(row["namespace"], row["pool"]), row["schedule"], int(row["began"]), int(row["ended"]),
                row["runs"], float(row["busy"]), float(row["took"]),
            )
            for row in await self._database.rows(query)
        ]  # fmt: skip


def _epoch(time: ColumnElement[Any]) -> ColumnElement[int]:
    return cast_as(extract("epoch", time), BigInteger)


def _cell(time: ColumnElement[Any]) -> ColumnElement[int]:
    return _epoch(time) // literal_column(str(CELL_SECONDS), BigInteger)
