"""The difference between two statuses, and which differences are worth a write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dawg_orchestrator.resources.reasons import Reason


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """The fields of two statuses that are not the same in both."""
    return {field for field in old.keys() | new.keys() if old.get(field) != new.get(field)}


# Of a pool that is full: whichever holds at the moment, the task waits for a slot.
_FOR_A_SLOT = frozenset({Reason.STARTING, Reason.WAITING_FOR_AGENT, Reason.POOL_AT_MAXIMUM})


def same_wait(before: str | None, now: str | None) -> bool:
    """Whether a task waits for what it waited for: the reason is the same, or a slot is free only for a moment."""
    return before == now or (now == Reason.STARTING and before in _FOR_A_SLOT)


def keep_waits(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new status of a run that still waits, with the old words where only numbers in them differ.

    A queue moves all the time; that must not cost a write for each run in it.
    """
    conditions = {entry["type"]: entry for entry in old.get("conditions") or ()}
    tasks = {entry.get("index"): entry for entry in old.get("tasks") or ()}
    return {
        **new,
        "conditions": [_kept(conditions.get(entry["type"]), entry, "status") for entry in new["conditions"]],
        "tasks": [_kept(tasks.get(entry["index"]), entry, "attempt", "verdict") for entry in new["tasks"]],
    }


def _kept(old: Mapping[str, Any] | None, new: dict[str, Any], *deciding: str) -> dict[str, Any]:
    same = old is not None and all(old.get(part) == new.get(part) for part in deciding)
    if old is None or not same or not same_wait(old.get("reason"), new.get("reason")):
        return new
    return {**new, **{part: old[part] for part in ("reason", "message") if part in old}}
