"""The live queue as people ask for it: what waits, in the order in which slots go to it, and why.

A run is boiled down to its unfinished tasks soon after an event brings it, so that a question costs little parsing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

from dawg_orchestrator.planning.graph import pool_of
from dawg_orchestrator.planning.order import QueuedTask, order, read_place
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.model import parse_duration, parse_time
from dawg_orchestrator.resources.names import RECOMMENDED
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import TaskStatus, TestRunSpec, TestRunStatus
from dawg_orchestrator.store.testrun import RunTask, read_spec, read_status, tasks_of

_HELD_BACK = frozenset(
    {Reason.WAITING_FOR_NEEDS, Reason.WAITING_FOR_GROUP, Reason.RETRY_BACKOFF, Reason.RESOLVING_REVISION}
)  # waiting, but no free slot would start them
_QUEUED = frozenset(
    {Reason.WAITING_FOR_AGENT, Reason.NO_AGENT_READY, Reason.POOL_AT_MAXIMUM, Reason.POOL_PAUSED,
     Reason.POOL_NOT_FOUND, Reason.SEEN, Reason.NOT_SEEN}
)  # fmt: skip
_DEFAULT_AGING = AgentPoolSpec().aging


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task without a slot."""

    queued: QueuedTask
    key: str
    reason: str
    message: str

    @property
    def held_back(self) -> bool:
        """It waits for something else than a slot, so it has no position."""
        return self.reason in _HELD_BACK


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run without a verdict."""

    namespace: str
    name: str
    uid: str
    waiting: tuple[WaitingTask, ...]


def live_run(testrun: dict[str, Any]) -> LiveRun:
    """A TestRun without a verdict, as far as the queue is concerned."""
    metadata = testrun["metadata"]
    spec, status = read_spec(testrun), read_status(testrun)
    waiting: tuple[WaitingTask, ...] = ()
    if spec is not None:
        tasks = tasks_of(spec, status)
        unfinished = {task.status.name for task in tasks if task.status.verdict is None}
        waiting = tuple(
            _waiting_task(metadata, spec, task, _why(task, status, unfinished)) for task in tasks if _waits(task.status)
        )
    return LiveRun(metadata["namespace"], metadata["name"], metadata["uid"], waiting)


def queue_entries(
    runs: Iterable[LiveRun], pools: Mapping[tuple[str, str], dict[str, Any]], namespaces: Collection[str], now: datetime
) -> list[dict[str, Any]]:
    """The waiting tasks of the namespaces: of each pool in order with positions from 1, then those held back."""
    waiting = [task for run in runs if run.namespace in namespaces for task in run.waiting]
    waiting.sort(key=attrgetter("queued.namespace", "queued.pool"))
    entries: list[dict[str, Any]] = []
    for pool, tasks in groupby(waiting, key=attrgetter("queued.namespace", "queued.pool")):
        entries += _pool_entries(list(tasks), _aging(pools.get(pool)), now)
    return entries


def _pool_entries(tasks: list[WaitingTask], aging: timedelta, now: datetime) -> list[dict[str, Any]]:
    by_place = {(task.queued.run_uid, task.queued.index): task for task in tasks}
    ready = order((task.queued for task in tasks if not task.held_back), aging, now)
    held = order((task.queued for task in tasks if task.held_back), aging, now)
    positions = [*range(1, len(ready) + 1), *[None] * len(held)]
    return [
        _entry(by_place[queued.run_uid, queued.index], position, now)
        for queued, position in zip([*ready, *held], positions, strict=True)
    ]


def _entry(task: WaitingTask, position: int | None, now: datetime) -> dict[str, Any]:
    queued = task.queued
    return {
        "position": position,
        "namespace": queued.namespace,
        "run": queued.run,
        "runUid": queued.run_uid,
        "index": queued.index,
        "task": task.key,
        "pool": queued.pool,
        "priority": queued.priority,
        "recommended": queued.recommended > 0,
        "reason": task.reason,
        "message": task.message,
        "waitingSeconds": max(0, int((now - queued.since).total_seconds())),
    }


def _waits(task: TaskStatus) -> bool:
    if task.verdict is not None:
        return False
    return task.reason in _QUEUED or task.reason in _HELD_BACK or (task.agent is None and task.job is None)


def _waiting_task(metadata: dict[str, Any], spec: TestRunSpec, task: RunTask, why: tuple[str, str]) -> WaitingTask:
    declared = task.cell.task if task.cell is not None else None
    queued = QueuedTask(
        namespace=metadata["namespace"], run=metadata["name"], run_uid=metadata["uid"], index=task.status.index,
        pool=pool_of(spec, declared) if declared else spec.pool,
        priority=(declared.priority if declared else None) or spec.priority,
        since=parse_time(metadata["creationTimestamp"]),
        recommended=read_place((metadata.get("annotations") or {}).get(RECOMMENDED, "")),
    )  # fmt: skip
    return WaitingTask(queued, task.key, *why)


def _why(task: RunTask, status: TestRunStatus, unfinished: Collection[str]) -> tuple[str, str]:
    """(reason, message) of a waiting task: its own, else by its needs, else its run's."""
    if task.status.reason is not None:
        return task.status.reason, task.status.message or ""
    if task.cell is not None and any(need in unfinished for need in task.cell.task.needs):
        return Reason.WAITING_FOR_NEEDS.value, Reason.WAITING_FOR_NEEDS.sentence
    if status.queue is not None and status.queue.reason is not None:
        return status.queue.reason, status.queue.message or ""
    seen = Reason.WAITING_FOR_AGENT if status.term is not None else Reason.NOT_SEEN
    return seen.value, seen.sentence


def _aging(pool: dict[str, Any] | None) -> timedelta:
    try:
        return parse_duration(((pool or {}).get("spec") or {})["aging"])
    except (KeyError, ValueError):
        return _DEFAULT_AGING
