from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dawg_orchestrator.resources.protocol import DashboardEntry
from dawg_orchestrator.store.entries import EntryKey
from dawg_orchestrator.store.history import History

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def s3() -> None:
    """Entries are rows: where files are is no matter."""


async def show(history: History, run: str, index: int = 0, *, namespace: str = "team", **parts: Any) -> None:
    await history.runs.begin(run, namespace, run, NOON)
    entry = DashboardEntry(**{"title": "t", "run": run, "task": "show", "created_at": NOON} | parts)
    await history.entries.put(namespace, run, index, entry)


async def test_the_same_step_has_one_entry(history: History) -> None:
    await show(history, "run", title="first")
    await show(history, "run", title="second \x00 of the same", level="Critical")
    await show(history, "run", 1, title="another step's")

    rows = await history.entries.page(["team"], 10)

    assert [(row["index"], row["title"], row["level"]) for row in rows] == [
        (1, "another step's", "Info"), (0, "second \N{REPLACEMENT CHARACTER} of the same", "Critical")
    ]  # fmt: skip
    assert rows[0]["created"] == NOON


async def test_pages_join_without_gap_or_repeat_newest_first(history: History) -> None:
    for number in range(11):
        await show(history, f"run-{number % 4}", number, created_at=NOON + timedelta(seconds=number // 3))
    await show(history, "elsewhere", namespace="other")

    seen: list[EntryKey] = []
    while page := await history.entries.page(["team"], 3, seen[-1] if seen else None):
        seen += [EntryKey(row["created"], row["run"], row["index"]) for row in page]

    assert len(seen) == len(set(seen)) == 11
    assert [key.created for key in seen] == sorted((key.created for key in seen), reverse=True)


async def test_an_entry_goes_with_its_runs_history(history: History) -> None:
    await show(history, "run")

    assert await history.retention.forget(NOON + timedelta(days=1), alive=()) == 1

    assert await history.entries.page(["team"], 10) == []
