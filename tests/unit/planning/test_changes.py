"""Which differences between two statuses are worth a write."""

from __future__ import annotations

from typing import Any

import pytest

from dawg_orchestrator.planning.changes import differing, keep_waits, same_wait


def waiting(reason: str, message: str, **entry: Any) -> dict[str, Any]:
    """The status of a run of one task that waits."""
    told = {"reason": reason, "message": message}
    condition = {"type": "Succeeded", "status": "Unknown", **told}
    return {"conditions": [condition], "tasks": [{"name": "unit", "index": 0, "attempt": 0, **told, **entry}]}


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("PoolAtMaximum", "PoolAtMaximum", True),
        ("PoolAtMaximum", "Starting", True),
        ("WaitingForAgent", "Starting", True),
        ("WaitingForAgent", "PoolAtMaximum", False),
        ("PoolPaused", "Starting", False),
        (None, "Starting", False),
    ],
)
def test_a_slot_that_is_free_for_a_moment_is_no_other_reason(before: str | None, now: str, same: bool) -> None:
    assert same_wait(before, now) is same


def test_the_fields_that_came_went_or_changed_differ() -> None:
    old = {"term": 1, "agents": {"ready": 2}, "gone": True, "same": [1]}
    new = {"term": 2, "agents": {"ready": 3}, "came": 1, "same": [1]}

    assert differing(old, new) == {"term", "agents", "gone", "came"}
    assert differing(old, dict(old)) == set()


def test_a_queue_that_moves_costs_no_write() -> None:
    old = waiting("PoolAtMaximum", "8 of 8 slots are taken and 400 tasks wait")
    moved = waiting("PoolAtMaximum", "8 of 8 slots are taken and 399 tasks wait")
    flapping = waiting("Starting", "1 of 8 slots are free")

    assert keep_waits(old, moved) == old
    assert keep_waits(old, flapping) == old


@pytest.mark.parametrize(
    "new",
    [
        waiting("PoolPaused", "the pool is paused"),
        waiting("PoolAtMaximum", "now", attempt=1),
        waiting("PoolAtMaximum", "now", verdict="Skipped"),
    ],
    ids=["another reason", "another attempt", "a verdict"],
)
def test_what_really_changed_is_written(new: dict[str, Any]) -> None:
    old = waiting("PoolAtMaximum", "8 of 8 slots are taken")

    assert keep_waits(old, new)["tasks"] == new["tasks"]
