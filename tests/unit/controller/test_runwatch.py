"""The watch of TestRuns brings every change to the desk, whatever becomes of the watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from builders import NAMESPACE, NOON, run_object
from dawg_orchestrator.cluster.client import WatchExpired
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.runwatch import watch_runs
from dawg_orchestrator.errors import Unavailable

Event = tuple[str, dict[str, Any]] | Exception


class Scripted:
    """An API whose lists and watches are laid out; the last watch stays open and silent."""

    def __init__(self, lists: Sequence[tuple[list[dict[str, Any]], str]], watches: Sequence[list[Event]]) -> None:
        self._lists, self._watches = list(lists), list(watches)
        self.watched_from: list[str] = []
        self.silent = asyncio.Event()

    async def pages(self, *_: object) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        yield self._lists.pop(0)

    async def watch(self, _resource: object, _namespace: str, version: str, *_: object) -> AsyncIterator[Event]:
        self.watched_from.append(version)
        if not self._watches:
            self.silent.set()
            await asyncio.Event().wait()
        for event in self._watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def a_desk(*known: str) -> Desk:
    desk = Desk(1, lambda _key, _at: None, NOON)
    for name in known:
        desk.see_run(run_object(name))
    return desk


async def followed(cluster: Scripted, desk: Desk, forget: Callable[[str], Awaitable[None]] | None = None) -> list[str]:
    """The uids that were forgotten once the script has come to its end."""
    forgotten: list[str] = []

    async def note(uid: str) -> None:
        forgotten.append(uid)
        desk.drop_run(uid)

    watching = asyncio.create_task(
        watch_runs(cluster, [NAMESPACE], desk, forget or note, shortest_pause=0.0)  # type: ignore[arg-type]
    )
    async with asyncio.timeout(10):
        await cluster.silent.wait()
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return forgotten


async def test_the_watch_goes_on_from_the_list_that_the_leader_began_with() -> None:
    desk = a_desk()
    desk.runs_listed_at[NAMESPACE] = "40"
    cluster = Scripted([], [[("ADDED", run_object("new", version=41)), ("BOOKMARK", run_object("new", version=50))]])

    await followed(cluster, desk)

    assert set(desk.runs) == {"uid-new"}
    assert cluster.watched_from == ["40", "50"]


async def test_a_run_that_was_deleted_is_forgotten_and_a_late_word_does_not_bring_back_one_that_had_ended() -> None:
    desk = a_desk("running")
    ended = run_object("ended", version=3)
    script: list[Event] = [("DELETED", run_object("running", version=2)), ("DELETED", ended), ("MODIFIED", ended)]

    forgotten = await followed(Scripted([([run_object("running")], "1")], [script]), desk)

    assert forgotten == ["uid-running"]
    assert desk.runs == {}


async def test_after_a_gap_everything_is_listed_and_what_the_list_lacks_is_forgotten() -> None:
    desk = a_desk("gone")
    desk.runs_listed_at[NAMESPACE] = "1"
    cluster = Scripted([([run_object("missed", version=7)], "9")], [[WatchExpired("too old", 410)]])

    forgotten = await followed(cluster, desk)

    assert forgotten == ["uid-gone"]
    assert set(desk.runs) == {"uid-missed"}
    assert cluster.watched_from == ["1", "9"]


async def test_a_watch_that_breaks_goes_on_from_its_last_event() -> None:
    desk = a_desk()
    desk.runs_listed_at[NAMESPACE] = "1"
    cluster = Scripted([], [[("ADDED", run_object("one", version=5)), Unavailable("it broke")]])

    await followed(cluster, desk)

    assert cluster.watched_from == ["1", "5"]


async def test_an_agent_that_is_slow_to_be_told_holds_up_no_other_runs_event() -> None:
    desk = a_desk("slow")
    desk.runs_listed_at[NAMESPACE] = "1"

    async def never(_uid: str) -> None:
        await asyncio.Event().wait()

    script: list[Event] = [("DELETED", run_object("slow", version=2)), ("ADDED", run_object("next", version=3))]
    await followed(Scripted([], [script]), desk, never)

    assert "uid-next" in desk.runs


async def test_an_object_that_the_desk_breaks_on_does_not_end_the_watch() -> None:
    desk = a_desk()
    desk.runs_listed_at[NAMESPACE] = "1"
    broken = {"metadata": {"namespace": NAMESPACE, "name": "broken", "uid": "u", "resourceVersion": "2"}}
    cluster = Scripted([], [[("ADDED", broken), ("ADDED", run_object("good", version=3))]])

    await followed(cluster, desk)

    assert set(desk.runs) == {"uid-good"}
