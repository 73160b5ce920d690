"""The api role: one process, its doors and the probes, and what goes on behind them.

8444 uploads (TLS) ─┐
8080 people         ├─► Services ─► store, cluster          background: follow, training, retention, certificates
8082 webhooks       │   (if they are on)
9090 probes         ┘
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from dawg_orchestrator.api.auth import Reviews
from dawg_orchestrator.api.contents import Contents
from dawg_orchestrator.api.follow import Follower
from dawg_orchestrator.api.learned import Lessons
from dawg_orchestrator.api.metrics import Metrics
from dawg_orchestrator.api.people import people_app
from dawg_orchestrator.api.probes import probes_app
from dawg_orchestrator.api.services import Services, now
from dawg_orchestrator.api.training import SAMPLES_KEPT, Training
from dawg_orchestrator.api.uploads import uploads_app
from dawg_orchestrator.api.wakes import Alarm
from dawg_orchestrator.api.webhooks import webhooks_app
from dawg_orchestrator.api.workloads import Workloads
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import DawgError, StoreError
from dawg_orchestrator.settings import ApiSettings
from dawg_orchestrator.store.history import History
from dawg_orchestrator.store.retention import RUNS_AT_ONCE

_log = structlog.get_logger()
_MOST_SENDERS = 500  # connections at the door for webhooks, where strangers may knock
_GRACE_SECONDS = 10  # for requests under way when the process is to end
_RETENTION_EVERY = timedelta(minutes=10)
_WAKES_KEPT = timedelta(hours=1)  # who has been away for so long has looked by itself since
_CERTIFICATES_EVERY = timedelta(minutes=1)


class Listener(uvicorn.Server):
    """A server among others in one process; signals are the process's business, not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals: the last server to take them would keep them from the others."""
        yield


def main(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT; SystemExit(1) says in the log why it cannot."""
    gc.freeze()  # what was imported stays: no collection need walk it
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signalled(settings))
    except (DawgError, OSError) as error:
        _log.error("api cannot serve", error=str(error))
        raise SystemExit(1) from None


async def _serve_until_signalled(settings: ApiSettings) -> None:
    closing = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, closing.set)
    async with Cluster(find_credentials(), user_agent="dawg-api") as cluster:
        await serve(settings, cluster, closing)


async def serve(settings: ApiSettings, cluster: Cluster, closing: asyncio.Event) -> None:
    """Open the store, serve, and close everything in turn once ``closing`` is set."""
    history = await History.open(
        settings.database_url,
        settings.data_dir,
        max_file_bytes=settings.max_file_bytes,
        free_space_floor=settings.free_space_floor,
        s3=settings.s3,
    )
    try:
        await _run(assemble(settings, cluster, history, closing))
    finally:
        await history.close()


def assemble(settings: ApiSettings, cluster: Cluster, history: History, closing: asyncio.Event) -> Services:
    """One of everything that the doors need."""
    clock = time.monotonic
    metrics = Metrics()
    reviews = Reviews(cluster, clock)
    contents = Contents(cluster, clock)
    return Services(
        settings=settings,
        cluster=cluster,
        history=history,
        reviews=reviews,
        contents=contents,
        workloads=Workloads(
            cluster, reviews, contents, settings.namespaces, settings.controller_service_account, clock
        ),
        follower=Follower(cluster, history.runs, settings.namespaces, metrics, contents),
        lessons=Lessons(history.runs, clock),
        metrics=metrics,
        alarm=Alarm(history.wakes),
        clock=clock,
        closing=closing,
    )


async def _run(services: Services) -> None:
    settings = services.settings
    certificate = _load_certificate(settings.tls_dir)
    listeners = [
        _listener(uploads_app(services), certificate),
        _listener(people_app(services)),
        _listener(probes_app(services)),
    ]
    ports = [settings.uploads_port, settings.people_port, settings.metrics_port]
    if settings.webhooks:
        listeners.append(_listener(webhooks_app(services), most=_MOST_SENDERS))
        ports.append(settings.webhooks_port)
    sockets = [_bind(port) for port in ports]
    async with asyncio.TaskGroup() as tasks:
        behind = [
            tasks.create_task(services.follower.run()),
            tasks.create_task(_forget_the_old(services)),
            tasks.create_task(Training(services.history, settings.namespaces).run()),
            tasks.create_task(_renew_certificate(certificate, settings.tls_dir)),
        ]
        serving = [
            tasks.create_task(listener.serve(sockets=[bound]))
            for listener, bound in zip(listeners, sockets, strict=True)
        ]
        _log.info(
            "api serves", uploads=ports[0], people=ports[1], metrics=ports[2], webhooks=settings.webhooks,
            namespaces=settings.namespaces,
        )  # fmt: skip
        await services.closing.wait()
        for listener in listeners:
            listener.should_exit = True
        await asyncio.wait(serving)
        for task in behind:
            task.cancel()
    _log.info("api ends")


def _listener(app: ASGIApp, certificate: ssl.SSLContext | None = None, most: int | None = None) -> Listener:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        limit_concurrency=most,
    )
    config.load()
    config.ssl = certificate
    return Listener(config)


def _bind(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        bound = socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=2048)
    except OSError as error:
        raise OSError(error.errno, f"port {port} cannot be listened on: {error.strerror}") from error
    # asyncio sets it on its own sockets only; without it each answer waits 40 ms for the asker's acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _load_certificate(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except OSError as error:
        raise OSError(error.errno, f"DAWG_TLS_DIR: {folder}/tls.crt and tls.key cannot be read: {error}") from error
    return context


async def _renew_certificate(context: ssl.SSLContext, folder: Path) -> None:
    """New connections get the certificate that is in the folder now; kubelet renews it there."""
    loaded = _written(folder)
    while True:
        await asyncio.sleep(_CERTIFICATES_EVERY.total_seconds())
        written = _written(folder)
        if written == loaded:
            continue
        try:
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        except OSError as error:
            _log.error("the new certificate cannot be used", error=str(error))
            continue
        loaded = written


def _written(folder: Path) -> float:
    try:
        return (folder / "tls.crt").stat().st_mtime
    except OSError:
        return 0.0


async def _forget_the_old(services: Services) -> None:
    """Delete by age in small batches. Never before all runs are known: those that still exist must stay."""
    while True:
        all_known = services.follower.synced
        try:
            if all_known:
                await _forget_runs(services)
                await services.history.step_states.forget(now() - services.settings.step_state_retention)
                await services.history.deliveries.forget(now() - services.settings.retention)
                await services.history.wakes.forget(now() - _WAKES_KEPT)
                await services.history.patches.forget(now() - services.settings.retention)
                await services.history.commits.forget(now() - SAMPLES_KEPT)
                await services.history.risk_models.forget()
        except StoreError as error:
            _log.error("what is old is not deleted", error=str(error)[:300])
        await asyncio.sleep(_RETENTION_EVERY.total_seconds() if all_known else 1.0)


async def _forget_runs(services: Services) -> None:
    gone = RUNS_AT_ONCE
    while gone >= RUNS_AT_ONCE:
        before = now() - services.settings.retention
        gone = await services.history.retention.forget(before, alive=services.follower.seen.existing)
        services.metrics.forgotten.inc(gone)
