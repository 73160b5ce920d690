from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dawg_orchestrator.store import stepstates
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.stepstates import (
    MAX_VALUE_BYTES,
    Kept,
    StaleVersion,
    TooManyKeys,
    UnstorableValue,
    ValueTooLarge,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOTHING = Kept()


@pytest.fixture
def s3() -> None:
    """State is rows: where files are is no matter."""


async def test_each_write_follows_what_was_read(history: History) -> None:
    states = history.step_states
    assert await states.read("team", "key", NOON) == NOTHING

    first = await states.write("team", "key", NOTHING, {"mean": 1.5}, NOON)
    second = await states.write("team", "key", first, {"mean": 2}, NOON)

    assert (first.version, second.version) == (1, 2)
    assert await states.read("team", "key", NOON) == Kept(2, {"mean": 2})
    assert await states.read("other", "key", NOON) == NOTHING


async def test_who_has_read_an_older_version_writes_nothing(history: History) -> None:
    states = history.step_states
    first = await states.write("team", "key", NOTHING, {"of": "first"}, NOON)
    await states.write("team", "key", first, {"of": "second"}, NOON)

    for read in (NOTHING, first, Kept(3), Kept(99)):
        with pytest.raises(StaleVersion):
            await states.write("team", "key", read, {"of": "third"}, NOON)
    with pytest.raises(StaleVersion):
        await states.write("team", "nothing there", Kept(1), {"of": "third"}, NOON)

    assert await states.read("team", "key", NOON) == Kept(2, {"of": "second"})


@pytest.mark.parametrize("written", [0, 1], ids=["the first write", "a later write"])
async def test_of_many_replicas_that_write_at_once_one_wins(
    written: int, history: History, database_url: str, tmp_path: Path
) -> None:
    replicas = [
        await History.open(database_url, tmp_path / str(number), max_file_bytes=1, free_space_floor=0)
        for number in range(4)
    ]
    read = NOTHING
    for _ in range(written):
        read = await history.step_states.write("team", "key", read, {}, NOON)

    async def write(number: int) -> Kept | None:
        try:
            return await replicas[number % 4].step_states.write("team", "key", read, {"by": number}, NOON)
        except StaleVersion:
            return None

    won = [kept for kept in await asyncio.gather(*map(write, range(16))) if kept is not None]

    assert won == [await history.step_states.read("team", "key", NOON)]
    for replica in replicas:
        await replica.close()


@pytest.mark.parametrize(
    "value",
    [
        {}, {"a": None, "b": [1, 2.5, True, "ä\N{GRINNING FACE}"], "": {"deep": [[[]]]}}, {"nul": "a\x00b"},
        {"big": 2**70, "small": 5e-324}, {"text": "x" * (MAX_VALUE_BYTES - 12)},
    ],
    ids=["nothing in it", "of all kinds", "a NUL", "numbers", "as large as may be"],
)  # fmt: skip
async def test_a_value_comes_back_as_it_was(value: dict[str, Any], history: History) -> None:
    await history.step_states.write("team", "key", NOTHING, value, NOON)

    assert (await history.step_states.read("team", "key", NOON)).value == value


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        ({"text": "x" * MAX_VALUE_BYTES}, ValueTooLarge), ({"a": float("nan")}, UnstorableValue),
        ({"a": float("inf")}, UnstorableValue), ({"a": "\ud800"}, UnstorableValue),
    ],
    ids=["too large", "not a number", "infinite", "half a character"],
)  # fmt: skip
async def test_what_not_every_database_takes_is_refused(
    value: dict[str, Any], refusal: type[Exception], history: History
) -> None:
    with pytest.raises(refusal):
        await history.step_states.write("team", "key", NOTHING, value, NOON)

    assert await history.step_states.read("team", "key", NOON) == NOTHING


async def test_a_namespace_that_keeps_as_much_as_it_may_can_only_change_what_it_keeps(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepstates, "MAX_KEYS", 2)
    states = history.step_states
    kept = [await states.write("team", key, NOTHING, {}, NOON) for key in ("a", "b")]

    with pytest.raises(TooManyKeys, match="team"):
        await states.write("team", "c", NOTHING, {}, NOON)

    await states.write("team", "a", kept[0], {"more": 1}, NOON)
    await states.write("other", "c", NOTHING, {}, NOON)


async def test_what_nobody_uses_goes_and_being_read_is_use(history: History) -> None:
    states = history.step_states
    for key in ("unused", "read", "written"):
        await states.write("team", key, NOTHING, {"of": key}, NOON)
    later = NOON + timedelta(days=60)
    await states.read("team", "read", later)
    await states.write("team", "written", Kept(1), {"of": "written"}, later)

    assert await states.forget(NOON + timedelta(days=1)) == 1

    assert await states.read("team", "unused", later) == NOTHING
    assert (await states.read("team", "read", later)).version == 1
    assert (await states.read("team", "written", later)).version == 2
