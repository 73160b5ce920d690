"""Probes and metrics, plain HTTP."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


async def open_health(port: int, registry: CollectorRegistry, measure: Callable[[], None]) -> web.AppRunner:
    """/healthz and /readyz answer as long as the loop turns (a standby is ready too); /metrics for Prometheus.

    ``measure`` brings the gauges up to date before each scrape.
    """

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def metrics(_: web.Request) -> web.Response:
        measure()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", alive)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
