"""One run that history never takes does not keep the others out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from builders import run_object
from dawg_orchestrator.api import follow
from dawg_orchestrator.api.contents import Contents
from dawg_orchestrator.api.follow import Follower
from dawg_orchestrator.api.metrics import Metrics
from dawg_orchestrator.errors import StoreError
from dawg_orchestrator.store.testrun import RunRecord


class Picky:
    """A history that refuses a whole batch for one run in it."""

    def __init__(self, refused: str) -> None:
        self.refused = refused
        self.recorded: set[str] = set()

    async def record(self, records: list[RunRecord]) -> None:
        names = {record.run["name"] for record in records}
        if self.refused in names:
            raise StoreError(f"{self.refused} is not taken")
        self.recorded |= names


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_GATHER_SECONDS", "_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(follow, name, 0)


def a_finished_run(name: str) -> dict[str, Any]:
    return run_object(name) | {"status": {"verdict": "Passed"}}


async def recorded_by(history: Any, names: list[str], expected: set[str], last: dict[str, Any] | None = None) -> None:
    contents = Contents(None, time.monotonic)  # type: ignore[arg-type]
    follower = Follower(None, history, (), Metrics(), contents)  # type: ignore[arg-type]
    for run in [last] * (last is not None) + [a_finished_run(name) for name in names]:
        follower._take(run, {})
    recording = asyncio.create_task(follower._record())
    async with asyncio.timeout(5):
        while history.recorded != expected:
            await asyncio.sleep(0)
            assert not recording.done()
    recording.cancel()


@pytest.mark.parametrize("place", [0, 3, 6])
async def test_all_but_a_run_that_history_refuses_are_recorded(place: int) -> None:
    names = [f"run-{number}" for number in range(7)]

    await recorded_by(Picky(names[place]), names, {*names} - {names[place]})


async def test_all_but_a_run_that_cannot_be_read_are_recorded() -> None:
    unreadable = a_finished_run("odd")
    unreadable["metadata"]["creationTimestamp"] = "never"

    await recorded_by(Picky(""), ["a", "b"], {"a", "b"}, unreadable)
