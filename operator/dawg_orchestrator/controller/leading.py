"""What a leader does from the moment it has the Lease: list everything, welcome agents, watch, plan, carry out.

All that it touches comes from outside (`Outside`), so that a simulation can drive this very code by its own clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.controller import metrics, resync
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.elector import Elector, LeadershipLost
from dawg_orchestrator.controller.estimates import Estimates
from dawg_orchestrator.controller.gauges import Gauges
from dawg_orchestrator.controller.history import History
from dawg_orchestrator.controller.reconcile import Reconciler
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.status import Reporter
from dawg_orchestrator.controller.ttl import TimeToLive
from dawg_orchestrator.controller.workqueue import WorkQueue, work

log = structlog.get_logger()

START_ANEW = 3
_WORKERS = 8
_OBJECTS_BETWEEN_COLLECTIONS = 20_000  # about 20 runs, where Python would collect in the midst of each
_SILENCE_LOOK_SECONDS = 1.0
_LEARN_SECONDS = 180.0

ForgetRun = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What a leader works with. ``watch`` brings changes to the desk until its event is set; it ends by itself then."""

    cluster: Cluster
    namespaces: tuple[str, ...]
    sessions: Sessions
    elector: Elector
    history: History
    around: Surroundings
    gauges: Gauges
    clock: Callable[[], datetime]
    watch: Callable[[Desk, ForgetRun, asyncio.Event], Coroutine[Any, Any, None]]


async def lead(outside: Outside, term: int, stop: asyncio.Event) -> int:
    """Lead until told to stop or the Lease is lost; the exit code of the process, or START_ANEW."""
    log.info("leading", term=term, namespaces=list(outside.namespaces))
    metrics.TERM.set(term)
    queue = WorkQueue(outside.clock)
    desk = Desk(term, queue.add, outside.clock())
    outside.gauges.lead(desk, queue)
    keeping = asyncio.create_task(outside.elector.keep(), name="elector")
    try:
        loading = asyncio.create_task(resync.load(outside.cluster, outside.namespaces, desk))
        done = await first(stop, [keeping, loading])
        if done is not loading:
            await end([loading])
            return await _conclude(done, outside.elector)
        if (latest := loading.result()) >= term:
            # The Lease was deleted, or another release led here: no status would take our word, and no agent.
            log.warning("the Lease is behind the statuses; leading anew", term=term, latest=latest)
            await end([keeping])
            await outside.elector.catch_up(latest)
            return START_ANEW
        gc.collect()
        gc.freeze()  # what has been read lives long: no collection needs to go through it while tests wait
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
        desk.serving_since = outside.clock()
        outside.sessions.serve(desk)
        log.info("serving", runs=len(desk.runs), pools=len(desk.pools))
        return await _conclude(await _serve(outside, desk, queue, keeping, stop), outside.elector)
    finally:
        await end([keeping])


async def _serve(
    outside: Outside, desk: Desk, queue: WorkQueue, keeping: asyncio.Task[None], stop: asyncio.Event
) -> asyncio.Task[Any] | None:
    """Do all that a leader does; returns the part that ended, or None for the wish to stop."""
    estimates = Estimates()
    ttl = TimeToLive(
        outside.cluster, outside.namespaces, outside.history, outside.clock, desk.see_finished
    )  # fmt: skip
    reporter = Reporter(outside.cluster, desk, outside.sessions, estimates, outside.clock, ttl.finished)
    reconciler = Reconciler(
        outside.cluster, desk, outside.sessions, queue, outside.around, reporter, outside.clock, ttl.let_go
    )  # fmt: skip
    endless: dict[str, Coroutine[Any, Any, None]] = {
        **{f"worker-{number}": work(queue, reconciler) for number in range(_WORKERS)},
        "resync": resync.keep_in_step(outside.cluster, outside.namespaces, desk, reconciler.forget_run),
        "silence": _end_silent_leases(desk, outside.clock),
        "ttl": ttl.keep(),
        "learn": _learn(desk, estimates, outside.history),
    }
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in endless.items()]
    unwatch = asyncio.Event()
    watching = asyncio.create_task(outside.watch(desk, reconciler.forget_run, unwatch), name="watches")
    try:
        return await first(stop, [keeping, watching, *tasks])
    finally:
        await end(tasks)
        unwatch.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wait([watching]), 3)
        await end([watching])


async def _end_silent_leases(desk: Desk, clock: Callable[[], datetime]) -> None:
    while True:
        await asyncio.sleep(_SILENCE_LOOK_SECONDS)
        for lease in desk.end_silent(clock()):
            log.warning(
                "an agent fell silent; its task is given to another", run=lease.attempt.run, lease=str(lease.id)
            )


async def _learn(desk: Desk, estimates: Estimates, history: History) -> None:
    while True:
        learned = await history.learned()
        if learned is not None:
            estimates.learn(learned.durations)
            desk.forecasts.learn(learned.loads)
        await asyncio.sleep(_LEARN_SECONDS)


async def first(stop: asyncio.Event, tasks: list[asyncio.Task[Any]]) -> asyncio.Task[Any] | None:
    """Whichever ends first; None for the wish to stop."""
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    return next((task for task in tasks if task in done), None)


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _conclude(done: asyncio.Task[Any] | None, elector: Elector) -> int:
    if done is None:
        log.info("stopping")
        await elector.release()
        return 0
    error = done.exception() if not done.cancelled() else None
    if isinstance(error, LeadershipLost):
        log.error("leadership lost", error=str(error))
        return START_ANEW
    log.error("an essential part ended", part=done.get_name(), error=repr(error))
    return 1
