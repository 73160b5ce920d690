"""How the doors answer: refusals as ``{"error": …, "remedy": …}``, and headers that make what is served harmless."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dawg_orchestrator.errors import ClusterError, InvalidSpec, StoreError
from dawg_orchestrator.store.blobs import ChecksumMismatch, NoSpace, TooLarge
from dawg_orchestrator.store.logs import OffsetGap
from dawg_orchestrator.store.stepstates import StaleVersion, TooManyKeys, UnstorableValue, ValueTooLarge

_log = structlog.get_logger()

_SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_DISCONNECTED = 499  # nobody hears it; it is there for the metrics


_REFUSED_BY_THE_STORE: tuple[tuple[type[StoreError], int, str], ...] = (
    (TooLarge, 413, "leave it out, make it smaller, or raise the api's limit"),
    (ChecksumMismatch, 422, "send the file again"),
    (StaleVersion, 409, "read it again, and write what follows from that"),
    (TooManyKeys, 422, "use fewer keys; those that nobody uses go after the chart's api.stepStateRetention"),
    (ValueTooLarge, 413, "keep less"),
    (UnstorableValue, 400, "correct the value"),
)


class Refusal(Exception):
    """A request that is answered with an HTTP status, what is wrong, and what would change it."""

    def __init__(self, status: int, error: str, remedy: str, **more: Any) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "remedy": remedy, **more}


def unauthenticated(error: str, remedy: str) -> Refusal:
    """Nobody known is asking."""
    return Refusal(401, error, remedy)


def forbidden(error: str, remedy: str) -> Refusal:
    """Somebody known is asking for what is not theirs."""
    return Refusal(403, error, remedy)


def not_found(error: str, remedy: str, **more: Any) -> Refusal:
    """What is asked for is not there."""
    return Refusal(404, error, remedy, **more)


def bad_request(error: str, remedy: str, **more: Any) -> Refusal:
    """The question itself is wrong."""
    return Refusal(400, error, remedy, **more)


def answer_errors(app: FastAPI) -> None:
    """Translate every error into an answer, here and nowhere else."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> JSONResponse:
        headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else None
        return JSONResponse(refusal.body, refusal.status, headers)

    @app.exception_handler(RequestValidationError)
    async def misspelt(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "body"
        return _json(400, f"{place}: {first['msg']}", "correct the request")

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return _json(error.status_code, str(error.detail), "see the api's reference for its paths and methods")

    @app.exception_handler(InvalidSpec)
    async def invalid(_: Request, error: InvalidSpec) -> JSONResponse:
        return _json(400, str(error), "correct the request")

    @app.exception_handler(StoreError)
    async def not_stored(request: Request, error: StoreError) -> JSONResponse:
        if isinstance(error, OffsetGap):
            return JSONResponse({"size": error.size, "error": str(error), "remedy": "send from this offset"}, 409)
        if isinstance(error, NoSpace):
            return _json(507, f"the store is full: {error}", "try again later")
        for kind, status, remedy in _REFUSED_BY_THE_STORE:
            if isinstance(error, kind):
                return _json(status, str(error), remedy)
        _log.error("store failed", path=request.url.path, error=str(error))
        return _json(503, "history cannot be read or written now", "try again; the api's log has the cause")

    @app.exception_handler(ClusterError)
    async def no_cluster(request: Request, error: ClusterError) -> JSONResponse:
        _log.warning("cluster failed", path=request.url.path, error=type(error).__name__, status=error.status)
        return _json(
            503, "the Kubernetes API does not answer the api role now", "try again; the api's log has the cause"
        )

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: ClientDisconnect) -> JSONResponse:
        return _json(_DISCONNECTED, "the sender left before the end", "send it again")


def _json(status: int, error: str, remedy: str) -> JSONResponse:
    return JSONResponse({"error": error, "remedy": remedy}, status)


class SafeHeaders:
    """Whatever is served, no browser may guess its type, run it, frame it or keep it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to every answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in _SAFE.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await self._app(scope, receive, send_safely)


def attachment(path: str) -> str:
    """Content-Disposition of a file to be saved, never shown; any name is safe in it."""
    name = path.rsplit("/", 1)[-1]
    plain = "".join(
        character if character.isascii() and (character.isalnum() or character in "._-") else "_" for character in name
    )
    return f"attachment; filename=\"{plain[:200]}\"; filename*=UTF-8''{quote(name[:200], safe='')}"


async def primed(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, the first of them read already, so that what is missing is told before an answer begins."""
    first = await anext(content, b"")

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for piece in content:
            yield piece

    return rest()
