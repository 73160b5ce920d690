from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store.database import Database
from dawg_orchestrator.store.logs import LogKey, LogState, log_state
from dawg_orchestrator.store.migrate import migrations
from dawg_orchestrator.store.runs import Runs
from dawg_orchestrator.store.tables import Table


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))


async def test_the_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    database = await Database.open(database_url)

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


async def test_opening_again_keeps_everything(database_url: str) -> None:
    for _ in range(3):
        database = await Database.open(database_url)
        await database.ping()
        await database.close()


async def test_replicas_that_start_together_migrate_once(database_url: str) -> None:
    opened = await asyncio.gather(*(Database.open(database_url) for _ in range(3)))

    for database in opened:
        await database.ping()
        await database.close()


async def test_what_release_0_1_has_stored_is_there_after_the_migration(database_url: str) -> None:
    opened = await Database.open(database_url)
    async with opened.writing() as connection:
        await connection.run_sync(lambda sync: command.downgrade(migrations(sync), "0001"))
        await connection.execute(text("INSERT INTO runs (uid, namespace, name, created, merge_blocked, tests_total,"
            " tests_passed, tests_failed, tests_flaky, tests_skipped, tasks_total, tasks_ran, tasks_green, tasks_timed,"
            " tasks_seconds) VALUES ('u', 'n', 'r', '2026-01-01', true, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)"))  # fmt: skip
        await connection.execute(
            text("""INSERT INTO logs (run, "index", attempt, size, complete, truncated)
            VALUES ('u', 0, 1, 5, true, false)""")
        )
    await opened.close()
    again = await Database.open(database_url)

    assert await log_state(again, LogKey("u", 0, 1)) == LogState(5, complete=True)
    await again.close()


@pytest.mark.parametrize("version", ["0001", "0002", "0003"])
async def test_what_runs_of_before_took_of_their_pool_is_known_after_the_migration(
    database_url: str, version: str
) -> None:
    opened = await Database.open(database_url)
    async with opened.writing() as connection:
        await connection.run_sync(lambda sync: command.downgrade(migrations(sync), version))
        insert = text(
            "INSERT INTO runs (uid, namespace, name, created, started, finished, verdict, workflow, pool,"
            " merge_blocked, tests_total, tests_passed, tests_failed, tests_flaky, tests_skipped, tasks_total,"
            " tasks_ran, tasks_green, tasks_timed, tasks_seconds) VALUES (:uid, 'n', 'r', '2026-01-01 12:00:00',"
            " '2026-01-01 12:00:00', '2026-01-01 12:01:00', 'Passed', :workflow, 'warm', true, 0, 0, 0, 0, 0, 4, 4, 4,"
            " 2, 50)"
        )
        await connection.execute(insert, [{"uid": "u", "workflow": None}, {"uid": "w", "workflow": "nightly"}])
    await opened.close()
    again = await Database.open(database_url)

    (work,) = await Runs(again).work(datetime(2026, 1, 1, tzinfo=UTC))

    assert (work.pool, work.schedule, work.runs, work.busy, work.took) == ("n warm", None, 1, 100.0, 60.0)
    await again.close()


async def test_sqlite_runs_with_write_ahead_log_and_foreign_keys(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/history.db")

    async with database.reading() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
    await database.close()


@pytest.mark.parametrize("url", ["mysql://u:hidden@h/d", "no url", "postgresql://u:hidden@127.0.0.1:1/d"])
async def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as refusal:
        await Database.open(url)

    assert "hidden" not in str(refusal.value)
