"""Metrics and probes; nothing here needs a token, and nothing here tells about runs."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from dawg_orchestrator.api.services import Services
from dawg_orchestrator.errors import StoreError


def probes_app(services: Services) -> FastAPI:
    """Alive while it answers; ready once all runs are known and as long as history can be read."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        if services.closing.is_set():
            return JSONResponse({"error": "the process is ending"}, 503)
        if not services.follower.synced:
            return JSONResponse({"error": "TestRuns and AgentPools have not been listed yet"}, 503)
        try:
            await services.history.database.ping()
        except StoreError:
            return JSONResponse({"error": "history cannot be read"}, 503)
        return PlainTextResponse("ok\n")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app
