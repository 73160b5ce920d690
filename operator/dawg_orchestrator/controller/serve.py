"""The controller role, from start to stop.

elect → list everything → welcome agents → watch, plan, carry out → give the Lease back

watches ─┐                        ┌─► Jobs, Deployments
agents  ─┼─► desk ─► work queue ─► reconcile
resync  ─┘  (what is)              └─► status, acceptances
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import kopf
import structlog

from dawg_orchestrator.cluster import identity
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.controller import metrics, resync
from dawg_orchestrator.controller.clock import now
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.elector import Elector, LeadershipLost
from dawg_orchestrator.controller.estimates import Estimates
from dawg_orchestrator.controller.gauges import Gauges
from dawg_orchestrator.controller.health import open_health
from dawg_orchestrator.controller.history import History
from dawg_orchestrator.controller.reconcile import Reconciler
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.status import Reporter
from dawg_orchestrator.controller.ttl import TimeToLive
from dawg_orchestrator.controller.watches import make_registry, make_settings
from dawg_orchestrator.controller.workqueue import WorkQueue, work
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import ControllerSettings

log = structlog.get_logger()

START_ANEW = 3
_WORKERS = 8
_SILENCE_LOOK_SECONDS = 1.0
_LEARN_SECONDS = 180.0


def main(settings: ControllerSettings) -> int:
    """Run until told to stop; 0, or 1 when something essential broke. A lost leadership starts the process anew."""
    code = asyncio.run(serve(settings))
    if code == START_ANEW:
        # Nothing of the former term may survive. The same container, because the kubelet would let a new one wait
        # longer and longer, and what was slow may have been the machine.
        os.execv(sys.executable, [sys.executable, "-m", "dawg_orchestrator", "controller"])  # noqa: S606
    return code


async def serve(settings: ControllerSettings) -> int:
    """The role's whole life in one event loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Cluster(find_credentials(), user_agent="dawg-controller") as cluster:
        sessions = Sessions(_identify_with(cluster), now)
        gauges = Gauges()
        health = await open_health(settings.metrics_port, metrics.REGISTRY, gauges.measure)
        await sessions.open(settings.sessions_port, settings.tls_dir)
        # The Lease has a connection of its own: it must not wait behind other requests.
        leasing = Cluster(find_credentials(), user_agent="dawg-elector")
        elector = Elector(leasing, settings.namespace, settings.identity)
        try:
            term = await _until(stop, elector.acquire())
            if term is None:
                return 0
            cluster.before_write = elector.check
            return await _lead(settings, cluster, sessions, elector, gauges, term, stop)
        finally:
            await leasing.close()
            await sessions.close()
            await health.cleanup()


async def _lead(
    settings: ControllerSettings,
    cluster: Cluster,
    sessions: Sessions,
    elector: Elector,
    gauges: Gauges,
    term: int,
    stop: asyncio.Event,
) -> int:
    log.info("leading", term=term, namespaces=list(settings.namespaces))
    metrics.TERM.set(term)
    queue = WorkQueue(now)
    desk = Desk(term, queue.add, now())
    gauges.lead(desk, queue)
    estimates = Estimates()
    history = History(settings.api_url, settings.api_token_file, settings.ca_file)
    ttl = TimeToLive(cluster, settings.namespaces, history, now)
    around = Surroundings(
        agent_image=settings.agent_image, agent_pull_policy=settings.agent_pull_policy,
        default_task_image=settings.default_task_image, api_url=settings.api_url,
        controller_address=settings.controller_address,
    )  # fmt: skip
    reporter = Reporter(cluster, desk, sessions, estimates, now, ttl.finished)
    reconciler = Reconciler(cluster, desk, sessions, queue, around, reporter, now)
    keeping = asyncio.create_task(elector.keep(), name="elector")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_end, [keeping])
        loading = asyncio.create_task(resync.load(cluster, settings.namespaces, desk))
        done = await _first(stop, [keeping, loading])
        if done is not loading:
            await _end([loading])
            return await _conclude(done, elector)
        if (latest := loading.result()) >= term:
            # The Lease was deleted, or another release led here: no status would take our word, and no agent.
            log.warning("the Lease is behind the statuses; leading anew", term=term, latest=latest)
            await _end([keeping])
            await elector.catch_up(latest)
            return START_ANEW
        desk.serving_since = now()
        sessions.serve(desk)
        log.info("serving", runs=len(desk.runs), pools=len(desk.pools))
        kopf_stop = asyncio.Event()
        tasks = [
            asyncio.create_task(coroutine, name=name)
            for name, coroutine in _endless(settings, cluster, desk, queue, reconciler, ttl, estimates, history).items()
        ]
        watching = asyncio.create_task(_watch(settings, desk, reconciler, kopf_stop, stop), name="watches")
        done = await _first(stop, [keeping, watching, *tasks])
        await _end(tasks)
        kopf_stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wait([watching]), 3)
        await _end([watching])
        return await _conclude(done, elector)


def _endless(
    settings: ControllerSettings,
    cluster: Cluster,
    desk: Desk,
    queue: WorkQueue,
    reconciler: Reconciler,
    ttl: TimeToLive,
    estimates: Estimates,
    history: History,
) -> dict[str, Coroutine[Any, Any, None]]:
    """What runs for as long as this process leads; the end of any of them is the end of the process."""
    return {
        **{f"worker-{number}": work(queue, reconciler) for number in range(_WORKERS)},
        "resync": resync.keep_in_step(cluster, settings.namespaces, desk, reconciler.forget_run),
        "silence": _end_silent_leases(desk),
        "ttl": ttl.keep(),
        "learn": _learn(estimates, history),
    }


async def _watch(
    settings: ControllerSettings, desk: Desk, reconciler: Reconciler, kopf_stop: asyncio.Event, stop: asyncio.Event
) -> None:
    """kopf takes the signals for itself when it starts; once it is ready they are taken back."""
    ready = asyncio.Event()

    async def take_signals_back() -> None:
        await ready.wait()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    taking = asyncio.create_task(take_signals_back())
    try:
        await kopf.operator(
            registry=make_registry(desk, reconciler.forget_run), settings=make_settings(),
            namespaces=list(settings.namespaces), standalone=True, ready_flag=ready, stop_flag=kopf_stop,
        )  # fmt: skip
    finally:
        taking.cancel()


async def _end_silent_leases(desk: Desk) -> None:
    while True:
        await asyncio.sleep(_SILENCE_LOOK_SECONDS)
        for lease in desk.end_silent(now()):
            log.warning(
                "an agent fell silent; its task is given to another", run=lease.attempt.run, lease=str(lease.id)
            )


async def _learn(estimates: Estimates, history: History) -> None:
    while True:
        learned = await history.learned()
        if learned is not None:
            estimates.learn(learned.durations)
        await asyncio.sleep(_LEARN_SECONDS)


def _identify_with(cluster: Cluster) -> Any:
    async def identify(token: str) -> Peer:
        speaker = await identity.review(cluster, token, names.CONTROLLER_AUDIENCE)
        pod = await identity.live_pod(cluster, speaker)
        pool = await identity.owning_pool(cluster, speaker, pod)
        return Peer(speaker.pod_uid, speaker.pod, speaker.namespace, pool)

    return identify


async def _until(stop: asyncio.Event, waited: Coroutine[Any, Any, int]) -> int | None:
    """The answer, or None when the process is told to stop first."""
    task = asyncio.create_task(waited)
    done = await _first(stop, [task])
    if done is None:
        await _end([task])
        return None
    return task.result()


async def _first(stop: asyncio.Event, tasks: list[asyncio.Task[Any]]) -> asyncio.Task[Any] | None:
    """Whichever ends first; None for the wish to stop."""
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    return next((task for task in tasks if task in done), None)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
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
