"""A proxy before the apiserver: everything that the controllers ask goes through it, and some of it goes wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

import aiohttp
from aiohttp import web
from yarl import URL

from chaosruns import faults
from chaosruns.calls import event_kind, kind_of
from chaosruns.faults import Answer, Call, Fault, Severed
from localcluster import certificates, network

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "upgrade"})
_LARGEST = 16 * 2**20
_GONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}


@dataclass
class Armed:
    """One fault that waits for its call: the ``nth`` of this kind from now on."""

    kind: str
    fault: str
    nth: int
    left: int = 0
    fired_at: float | None = None
    ended_at: float | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """The fault is over."""
        self.ended_at = time.monotonic()
        self.over.set()


class Proxy:
    """``calls`` counts what went through, by kind. ``kill`` ends the controller at an address."""

    def __init__(self, kill: Callable[[str], Awaitable[None]]) -> None:
        self._kill = kill
        self._armed: list[Armed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.calls: Counter[str] = Counter()
        self.all_calls: Fault | None = None  # what happens to every call meanwhile
        self.watches_speak = asyncio.Event()
        self.watches_speak.set()
        self.port = 0

    def arm(self, armed: Iterable[Armed]) -> None:
        """Let these faults, and no others, wait for their calls."""
        self._armed = list(armed)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve on the node's address for as long as the block lasts, with the apiserver's own certificate."""
        trust = ssl.create_default_context(cafile=str(certificates.certificate("ca")))
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        identity = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        identity.load_cert_chain(certificates.certificate("apiserver"), certificates.key("apiserver"))
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            site = web.TCPSite(runner, network.NODE_ADDRESS, 0, ssl_context=identity)
            await site.start()
            self.port = runner.addresses[0][1]
            try:
                yield
            finally:
                await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        kind = kind_of(request.method, request.path, request.query, request.headers)
        self.calls[kind] += 1
        armed = self._due(kind)
        body = await request.read()
        call = Call(lambda: self._forward(request, body), lambda: self._kill(request.remote or ""))
        try:
            if self.all_calls is not None:
                return _response(await self.all_calls(call))
            if request.query.get("watch") == "true":
                return await self._watch(request, kind, call, armed)
            return _response(await self._answer(call, armed))
        except (Severed, aiohttp.ClientError):
            _sever(request)

    def _due(self, kind: str) -> Armed | None:
        """The fault whose turn has come with this call."""
        for armed in self._armed:
            if armed.kind != kind:
                continue
            if armed.nth > 1:
                armed.nth -= 1
                continue
            if armed.fired_at is None:
                armed.fired_at, armed.left = time.monotonic(), faults.REPEATED.get(armed.fault, 1)
            armed.left -= 1
            if armed.left <= 0:
                self._armed.remove(armed)
            return armed
        return None

    async def _answer(self, call: Call, armed: Armed | None) -> Answer:
        if armed is None:
            return await call.forward()
        if armed.fault == faults.REPLAY:
            self._start(self._replay(call, armed))
            return await call.forward()
        try:
            return await faults.CALL_FAULTS[armed.fault](call)
        finally:
            armed.end()

    async def _replay(self, call: Call, armed: Armed) -> None:
        await asyncio.sleep(faults.LATE_SECONDS)
        with suppress(aiohttp.ClientError):
            await call.forward()
        armed.end()

    async def _forward(self, request: web.Request, body: bytes) -> Answer:
        async with self._request(request, body) as answer:
            return Answer(answer.status, _headers(answer.headers), await answer.read())

    def _request(self, request: web.Request, body: bytes) -> aiohttp.client._RequestContextManager:
        assert self._session is not None  # noqa: S101
        url = URL(certificates.SERVER + request.raw_path, encoded=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        return self._session.request(
            request.method, url, headers=_headers(request.headers), data=body or None, timeout=timeout
        )

    async def _watch(self, request: web.Request, kind: str, call: Call, armed: Armed | None) -> web.StreamResponse:
        if armed is not None and armed.fault != "kill-after":
            if armed.fault == "delay":
                await asyncio.sleep(faults.SLOW_SECONDS)
                armed.end()
            else:
                return _response(await self._answer(call, armed))
        async with self._request(request, b"") as upstream:
            if armed is not None and armed.fault == "kill-after":
                await call.kill_sender()
                armed.end()
                raise Severed
            answer = web.StreamResponse(status=upstream.status, headers=_headers(upstream.headers))
            await answer.prepare(request)
            try:
                async for line in _lines(upstream.content):
                    await self._pass_on(event_kind(kind), line, answer)
            except ConnectionError:
                return answer
            await answer.write_eof()
            return answer

    async def _pass_on(self, kind: str, line: bytes, answer: web.StreamResponse) -> None:
        await self.watches_speak.wait()
        self.calls[kind] += 1
        armed = self._due(kind)
        if armed is None:
            await answer.write(line)
            return
        if armed.fault == "stale":
            self._start(self._repeat(answer, line, armed))
            await answer.write(line)
            return
        try:
            await self._spoil(armed.fault, line, answer)
        finally:
            armed.end()

    async def _spoil(self, fault: str, line: bytes, answer: web.StreamResponse) -> None:
        """One event of a watch, as the fault has it."""
        match fault:
            case "cut":
                raise Severed
            case "gone":
                await answer.write(json.dumps({"type": "ERROR", "object": _GONE}).encode() + b"\n")
                raise Severed
            case "silent":
                await asyncio.sleep(faults.SILENT_SECONDS)
                await answer.write(line)
            case _:
                await answer.write(line + line)

    async def _repeat(self, answer: web.StreamResponse, line: bytes, armed: Armed) -> None:
        """The same event again when newer ones may have come."""
        await asyncio.sleep(faults.LATE_SECONDS)
        with suppress(ConnectionError, RuntimeError):
            await answer.write(line)
        armed.end()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def _sever(request: web.Request) -> NoReturn:
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError


def _headers(headers: object) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}  # type: ignore[attr-defined]


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
