"""A random walk over the Desk: whatever happens in whatever order, the promises hold, and everything ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import a_task_spec
from model_cluster import ModelCluster, check, come_to_rest

GROUP = {"concurrency": {"group": "g", "max": 1, "policy": "Queue"}}
RETRIES = {"retry": {"infra": {"limit": 2}, "tests": {"limit": 1}, "backoff": {"initial": "1s"}}}
SHAPES: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
    ([a_task_spec("a")], {}),
    ([a_task_spec("a", **RETRIES), a_task_spec("b", needs=["a"])], {}),
    ([a_task_spec("a", exclusive=True, **RETRIES)], {}),
    ([a_task_spec("a", matrix={"x": ["1", "2", "3"]}, **RETRIES)], {"failFast": True}),
    ([a_task_spec("a")], GROUP),
    ([a_task_spec("a")], {"concurrency": {**GROUP["concurrency"], "policy": "CancelInProgress"}}),
    ([a_task_spec("a", timeout="30s"), a_task_spec("b")], {"timeout": "2m"}),
]
EVENTS = [
    "create", "create", "reconcile", "reconcile", "reconcile", "look", "dispatch", "dispatch", "dispatch", "lose",
    "end", "end", "end", "report", "report", "report", "tick", "tick", "deletions", "deletions", "agent", "kill", "cut",
    "reconnect", "reconnect", "restart", "cancel", "delete",
]  # fmt: skip


def happen(world: ModelCluster, event: str, pick: int) -> None:
    """One event."""
    tasks, spec = SHAPES[pick % len(SHAPES)]
    happenings: dict[str, Callable[[], None]] = {
        "create": lambda: world.create_run(tasks, **spec),
        "reconcile": world.reconcile,
        "look": lambda: world.reconcile(write=False),
        "dispatch": world.dispatch,
        "lose": lambda: world.dispatch(lose=True),
        "end": lambda: world.end_test(pick),
        "report": lambda: world.report(pick),
        "tick": lambda: world.tick(pick),
        "deletions": world.finish_deletions,
        "agent": world.start_agent,
        "kill": lambda: world.kill_agent(pick),
        "cut": lambda: world.cut_session(pick),
        "reconnect": lambda: world.reconnect(pick),
        "restart": world.restart,
        "cancel": lambda: world.cancel_run(pick),
        "delete": lambda: world.delete_job(pick),
    }
    happenings[event]()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 30)), min_size=20, max_size=80))
def test_whatever_happens_each_task_gets_one_verdict_and_everything_ends(events: list[tuple[str, int]]) -> None:
    world = ModelCluster()
    for event, pick in events:
        happen(world, event, pick)
        check(world)

    come_to_rest(world, world.now + timedelta(hours=2))

    assert all("." not in letters for letters in world.letters.values())
