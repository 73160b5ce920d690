"""The agents' door: one WebSocket an agent, over TLS. Bytes only; what a word means is decided at the desk."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import structlog
from aiohttp import WSMsgType, web
from pydantic import ValidationError

from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.errors import ClusterError, Forbidden
from dawg_orchestrator.resources.protocol import (
    FROM_AGENT,
    SESSION_PATH,
    SILENCE_SECONDS,
    FromController,
    Hello,
    NotLeader,
)

log = structlog.get_logger()

_MAX_MESSAGE = 4 * 1024 * 1024
_CERTIFICATE_SECONDS = 60.0  # between two looks whether it was renewed
_SEND_SECONDS = 5.0  # an agent that takes longer to read is cut off, and comes back
Identify = Callable[[str], Awaitable[Peer]]


class Sessions:
    """All live sessions. Without a desk (a standby) every agent is told NotLeader."""

    def __init__(self, identify: Identify, clock: Callable[[], datetime]) -> None:
        self._identify = identify
        self._clock = clock
        self._desk: Desk | None = None
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._runner: web.AppRunner | None = None
        self._renewing: asyncio.Task[None] | None = None

    def serve(self, desk: Desk) -> None:
        """From now on agents are welcome."""
        self._desk = desk

    async def open(self, port: int, tls_dir: Path) -> None:
        """Listen; certificate and key are tls.crt and tls.key of the folder."""
        app = web.Application()
        app.router.add_get(SESSION_PATH, self._session)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls_dir / "tls.crt", tls_dir / "tls.key")
        await web.TCPSite(self._runner, None, port, ssl_context=context).start()
        self._renewing = asyncio.create_task(_renew(context, tls_dir))

    async def close(self) -> None:
        """Say good-bye to all agents, so that they look for the next leader at once."""
        await asyncio.gather(*(socket.close(code=1001) for socket in list(self._sockets.values())))
        if self._renewing is not None:
            self._renewing.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def send(self, uid: str, message: FromController) -> bool:
        """Send to an agent; False when it is not connected. A message may be lost: sessions open with what is held."""
        socket = self._sockets.get(uid)
        if socket is None:
            return False
        if socket.closed:
            self._lose(uid, socket)
            return False
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await socket.send_str(message.model_dump_json(by_alias=True, exclude_none=True))
        except (ConnectionError, TimeoutError):
            self._lose(uid, socket)
            await socket.close()
            return False
        return True

    def _lose(self, uid: str, socket: web.WebSocketResponse) -> None:
        """From now on the agent is not connected, or it would be granted what it cannot hear again and again."""
        if self._sockets.get(uid) is not socket:
            return
        del self._sockets[uid]
        if self._desk is not None:
            self._desk.lose_session(uid, self._clock())

    async def _session(self, request: web.Request) -> web.StreamResponse:
        if self._desk is None:
            return await _say_not_leader(request)  # before the token is looked at, which would cost the API a review
        try:
            peer = await self._identify(_token(request))
        except Forbidden as error:
            return web.json_response({"error": str(error)}, status=401)
        except ClusterError as error:
            return web.json_response({"error": f"cannot check the token now: {error}"}, status=503)
        # An agent says Alive every few seconds; a socket without a word for so long is dead.
        socket = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE, receive_timeout=SILENCE_SECONDS)
        await socket.prepare(request)
        former = self._sockets.pop(peer.uid, None)
        if former is not None:
            await former.close()
        self._sockets[peer.uid] = socket
        log.info("agent connected", agent=peer.pod, pool=peer.pool, namespace=peer.namespace)
        try:
            await self._listen(peer, socket, self._desk)
        finally:
            self._lose(peer.uid, socket)
            log.info("agent disconnected", agent=peer.pod, pool=peer.pool, namespace=peer.namespace)
        return socket

    async def _listen(self, peer: Peer, socket: web.WebSocketResponse, desk: Desk) -> None:
        greeted = False
        while True:
            try:
                frame = await socket.receive()
            except (TimeoutError, ConnectionError):
                return
            if frame.type is not WSMsgType.TEXT:
                return
            try:
                message = FROM_AGENT.validate_json(frame.data)
            except ValidationError as error:
                log.warning("agent said what cannot be read", agent=peer.pod, errors=error.error_count())
                await socket.close(code=1007, message=b"that message cannot be read")
                return
            if isinstance(message, Hello):
                answers, greeted = desk.hear_hello(peer, message, self._clock()), True
            elif greeted:
                answers = desk.hear(peer.uid, message, self._clock())
            else:
                await socket.close(code=1002, message=b"the first word is hello")
                return
            for answer in answers:
                await self.send(peer.uid, answer)


async def _renew(context: ssl.SSLContext, tls_dir: Path) -> None:
    """Take a renewed certificate into use; sessions that stand keep theirs."""
    while True:
        await asyncio.sleep(_CERTIFICATE_SECONDS)
        try:
            context.load_cert_chain(tls_dir / "tls.crt", tls_dir / "tls.key")
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate could not be read again", error=str(error))


async def _say_not_leader(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE)
    await socket.prepare(request)
    await socket.send_str(NotLeader().model_dump_json(by_alias=True))
    await socket.close()
    return socket


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Forbidden("a bearer token is needed", 401)
    return token.strip()
