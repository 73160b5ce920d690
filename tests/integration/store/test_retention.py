from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from dawg_orchestrator.resources.results import FullReport, Outcome, TestCase
from dawg_orchestrator.store.blobs import BlobKey
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.logs import LogKey
from dawg_orchestrator.store.retention import RUNS_AT_ONCE

OLD = datetime(2026, 1, 1, tzinfo=UTC)
CUT = OLD + timedelta(days=1)


async def bytes_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def upload_everything(history: History, uid: str, when: datetime) -> None:
    await history.runs.begin(uid, "team", uid, when)
    report = FullReport(cases=[TestCase(name=str(number), outcome=Outcome.PASSED) for number in range(3)])
    await history.reports.put(uid, 0, 1, namespace="team", body=b"{}", report=report, now=when)
    await history.artifacts.put(BlobKey(uid, 0, 1, "artifact", "a"), bytes_of(b"x"), now=when)
    await history.logs.append(LogKey(uid, 0, 1), 0, b"x", final=True)


async def rows(history: History, table: str) -> int:
    async with history.database.reading() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())  # noqa: S608


async def test_what_is_old_goes_whole_and_what_is_young_stays(history: History, kept: Callable[[], list[Path]]) -> None:
    await upload_everything(history, "young", CUT + timedelta(hours=1))
    young = kept()
    await upload_everything(history, "old", OLD)
    await history.logs.append(LogKey("old", 1, 1), 0, b"unfinished")
    assert len(kept()) > len(young) == 3

    assert await history.retention.forget(CUT, alive=()) == 1

    for table in ("runs", "reports", "artifacts", "logs"):
        assert await rows(history, table) == 1
    assert await rows(history, "test_cases") == 3
    assert await rows(history, "log_tails") == 0
    assert sorted(kept()) == sorted(young)


async def test_a_run_whose_testrun_still_exists_stays(history: History) -> None:
    await upload_everything(history, "old", OLD)

    assert await history.retention.forget(CUT, alive={"old"}) == 0
    assert await rows(history, "runs") == 1


async def test_much_goes_in_bounded_batches(history: History) -> None:
    for number in range(RUNS_AT_ONCE + 5):
        await history.runs.begin(f"run-{number}", "team", "run", OLD)

    assert await history.retention.forget(CUT, alive={"run-0"}) == RUNS_AT_ONCE
    assert await history.retention.forget(CUT, alive={"run-0"}) == 4
    assert await history.retention.forget(CUT, alive={"run-0"}) == 0


async def test_a_pass_that_was_cut_off_after_the_files_is_finished_by_the_next(history: History) -> None:
    await upload_everything(history, "old", OLD)
    await history.blobs.delete_run("old")

    assert await history.retention.forget(CUT, alive=()) == 1
    assert await rows(history, "test_cases") == 0
