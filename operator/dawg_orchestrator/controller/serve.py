"""The controller role, from start to stop.

elect → list everything → welcome agents → watch, plan, carry out → give the Lease back

watches ─┐                        ┌─► Jobs, Deployments
agents  ─┼─► desk ─► work queue ─► reconcile
resync  ─┘  (what is)              └─► status, acceptances
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import kopf
import uvloop

from dawg_orchestrator.cluster import identity
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.clock import now
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.elector import Elector
from dawg_orchestrator.controller.gauges import Gauges
from dawg_orchestrator.controller.health import open_health
from dawg_orchestrator.controller.history import History
from dawg_orchestrator.controller.leading import START_ANEW, ForgetRun, Outside, end, first, lead
from dawg_orchestrator.controller.overrides import watch_blocked
from dawg_orchestrator.controller.runwatch import watch_runs
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.watches import make_registry, make_settings
from dawg_orchestrator.resources import names
from dawg_orchestrator.settings import ControllerSettings


def main(settings: ControllerSettings) -> int:
    """Run until told to stop; 0, or 1 when something essential broke. A lost leadership starts the process anew."""
    gc.freeze()  # what was imported stays: no collection need walk it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(serve(settings))
    if code == START_ANEW:
        # Nothing of the former term may survive. The same container, because the kubelet would let a new one wait
        # longer and longer, and what was slow may have been the machine.
        os.execv(sys.executable, [sys.executable, "-m", "dawg_orchestrator", "controller"])  # noqa: S606
    return code


async def serve(settings: ControllerSettings) -> int:
    """The role's whole life in one event loop."""
    stop = asyncio.Event()
    _stop_at_signals(stop)
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
            return await lead(_outside(settings, cluster, sessions, elector, gauges, stop), term, stop)
        finally:
            await leasing.close()
            await sessions.close()
            await health.cleanup()


def _outside(
    settings: ControllerSettings,
    cluster: Cluster,
    sessions: Sessions,
    elector: Elector,
    gauges: Gauges,
    stop: asyncio.Event,
) -> Outside:
    around = Surroundings(
        agent_image=settings.agent_image, agent_pull_policy=settings.agent_pull_policy,
        default_task_image=settings.default_task_image, api_url=settings.api_url,
        controller_address=settings.controller_address, run_link=settings.run_link,
    )  # fmt: skip

    async def watch(desk: Desk, forget_run: ForgetRun, unwatch: asyncio.Event) -> None:
        """kopf takes the signals for itself when it starts; once it is ready they are taken back."""
        ready = asyncio.Event()
        taking = asyncio.create_task(_stop_at_signals_once(ready, stop))
        runs = asyncio.create_task(watch_runs(cluster, settings.namespaces, desk, forget_run))
        blocked = asyncio.create_task(watch_blocked(cluster, settings.namespaces, desk.overrides))
        others = asyncio.create_task(
            kopf.operator(
                registry=make_registry(desk), settings=make_settings(), namespaces=list(settings.namespaces),
                standalone=True, ready_flag=ready, stop_flag=unwatch,
            )
        )  # fmt: skip
        try:
            await asyncio.wait({runs, blocked, others}, return_when="FIRST_COMPLETED")
            for ended in (runs, blocked, others):
                if ended.done():
                    ended.result()  # none ends by itself: this raises why
        finally:
            taking.cancel()
            await end([runs, blocked, others])

    return Outside(
        cluster=cluster, namespaces=settings.namespaces, sessions=sessions, elector=elector,
        history=History(settings.api_url, settings.api_token_file, settings.ca_file), around=around, gauges=gauges,
        clock=now, watch=watch,
    )  # fmt: skip


async def _stop_at_signals_once(ready: asyncio.Event, stop: asyncio.Event) -> None:
    await ready.wait()
    _stop_at_signals(stop)


def _stop_at_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


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
    done = await first(stop, [task])
    if done is None:
        await end([task])
        return None
    return task.result()
