"""The watch of blocked runs misses no override, whatever becomes of the watch."""

from __future__ import annotations

import asyncio
from typing import Any

from builders import NAMESPACE, run_object
from dawg_orchestrator.cluster.client import WatchExpired
from dawg_orchestrator.controller.overrides import Overrides, watch_blocked
from dawg_orchestrator.errors import Invalid, Unavailable
from dawg_orchestrator.resources.names import OVERRIDE
from unit.controller.test_runwatch import Event, Scripted


def blocked(name: str, version: int = 1, *, said: bool = True) -> dict[str, Any]:
    run = run_object(name, version=version)
    annotations = {OVERRIDE: "Allowed by lead: the site is down"} if said else {}
    return {**run, "metadata": {**run["metadata"], "annotations": annotations}}


class Blocked(Scripted):
    """Lists and watches of metadata alone."""

    async def pages(self, *_: object, metadata_only: bool) -> Any:  # type: ignore[override]
        assert metadata_only
        async for page in super().pages():
            yield page

    async def watch(self, *asked: Any, metadata_only: bool) -> Any:  # type: ignore[override]
        assert metadata_only
        async for event in super().watch(*asked):
            yield event


async def found(lists: list[tuple[list[dict[str, Any]], str]], watches: list[list[Event]]) -> set[str]:
    cluster, overrides = Blocked(lists, watches), Overrides(lambda _namespace: None)
    watching = asyncio.create_task(watch_blocked(cluster, [NAMESPACE], overrides))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await cluster.silent.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return set(overrides.due(NAMESPACE).values())


async def test_what_a_list_and_a_watch_show_is_found() -> None:
    watched: list[Event] = [("MODIFIED", blocked("b", 5)), ("ADDED", blocked("c", 6, said=False))]

    assert await found([([blocked("a"), blocked("d", said=False)], "4")], [watched]) == {"a", "b"}


async def test_after_a_break_it_goes_on_and_after_an_expiry_it_lists_anew() -> None:
    watches: list[list[Event]] = [[Unavailable("gone", 503)], [WatchExpired("too old", 410)], []]

    assert await found([([], "4"), ([blocked("late")], "9")], watches) == {"late"}


async def test_where_the_definitions_do_not_know_blocked_runs_all_finished_ones_are_watched() -> None:
    unknown = Invalid("field label not supported: status.mergeBlocked", 400)

    assert await found([([], "4"), ([blocked("a")], "5")], [[unknown], [("ADDED", blocked("b", 6))]]) == {"a", "b"}


async def test_what_is_deleted_is_not_looked_at() -> None:
    assert await found([([], "4")], [[("DELETED", blocked("a", 5))]]) == set()
