"""The agent's one session with the leading controller: finds it, says Hello, carries messages both ways, comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import ValidationError

from dawg_agent.desk import Desk
from dawg_agent.settings import AgentSettings
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import (
    ALIVE_SECONDS,
    FROM_CONTROLLER,
    SESSION_PATH,
    Acceptance,
    Alive,
    Cancel,
    Drain,
    Drained,
    Duties,
    Grant,
    LeaseId,
    NotLeader,
    Publish,
    Report,
    Welcome,
)

ANSWER_WITHIN = 5.0  # seconds to connect, and then to answer Hello
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 0.8  # seconds between rounds of dialling: a new leader waits for its agents
HEARTBEAT = 4.0  # seconds between pings: a leader that is frozen, or whose machine is gone, sends no close
MAX_MESSAGE = 16 * 1024 * 1024  # bytes; Welcome may revoke many leases at once

log = structlog.get_logger()


class NoLeader(Exception):
    """This address is none of a leading controller."""


class _OnlyThis(AbstractResolver):
    """Answers every name with one address, so that the certificate is checked against the Service's name."""

    def __init__(self, family: int, address: str) -> None:
        self._family, self._address = family, address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=self._family, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        return None


class Session:
    """Keeps a session standing. What the controller asks for goes to the callbacks; on_cancel is told ``revoked``."""

    def __init__(
        self,
        settings: AgentSettings,
        desk: Desk,
        on_grant: Callable[[Grant], None],
        on_cancel: Callable[[LeaseId, bool], None],
        on_answer: Callable[[], None],
        on_duties: Callable[[Duties], None],
        on_publish: Callable[[Publish], None],
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._on_grant, self._on_cancel, self._on_answer = on_grant, on_cancel, on_answer
        self._on_duties, self._on_publish = on_duties, on_publish
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._sending = asyncio.Lock()
        self._drained_said = False
        self.standing = False

    async def keep(self) -> None:
        """Dial, talk, dial again; ends only by being cancelled."""
        pause = SHORTEST_PAUSE
        while True:
            if await self._round():
                pause = SHORTEST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(LONGEST_PAUSE, pause * 1.6)

    async def send(self, message: Model) -> bool:
        """Send now if the session stands; what must not be lost is on the desk and is sent again by itself."""
        if self._socket is None or not self.standing:
            return False
        try:
            async with self._sending:
                await self._socket.send_str(message.model_dump_json(by_alias=True, exclude_none=True))
        except (ConnectionError, aiohttp.ClientError, RuntimeError):
            return False
        if isinstance(message, Report):
            self._desk.sent(message.lease, datetime.now(UTC))
        return True

    async def say_alive(self) -> None:
        """Say that we are here, how many slots work, and under which leases."""
        await self.send(Alive(slots=self._desk.slots, holding=list(self._desk.holding)))

    async def dial_again(self) -> None:
        """Close the session so that a new Hello tells what has changed (draining)."""
        if self._socket is not None:
            await self._socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    async def say_drained(self) -> None:
        """Say once that nothing is held any more."""
        if self._desk.draining and self._desk.empty and not self._drained_said:
            self._drained_said = await self.send(Drained())

    async def _round(self) -> bool:
        """Dial every address once; return whether a session stood."""
        try:
            addresses = await self._addresses()
        except OSError as error:
            log.warning("controller not found", host=self._settings.controller_host, error=str(error))
            return False
        for family, address in addresses:
            try:
                async with self._dial(family, address) as websocket:
                    await self._talk(websocket)
                return True
            except NoLeader as error:
                log.debug("no leader here", address=address, error=str(error))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.info("controller does not answer", address=address, error=str(error) or type(error).__name__)
        return False

    async def _addresses(self) -> list[tuple[int, str]]:
        host, port = self._settings.controller_host, self._settings.controller_port
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        distinct: list[tuple[int, str]] = list(
            dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found)
        )
        random.shuffle(distinct)
        return distinct

    @asynccontextmanager
    async def _dial(self, family: int, address: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        token = self._settings.controller_token.read_text(encoding="utf-8").strip()
        tls = ssl.create_default_context(cafile=str(self._settings.ca))
        connector = aiohttp.TCPConnector(resolver=_OnlyThis(family, address), ssl=tls, use_dns_cache=False)
        host, port = self._settings.controller_host, self._settings.controller_port
        url = f"https://{f'[{host}]' if ':' in host else host}:{port}{SESSION_PATH}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_WITHIN)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            async with asyncio.timeout(2 * ANSWER_WITHIN):
                websocket = await client.ws_connect(
                    url, headers={"Authorization": f"Bearer {token}"}, heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE
                )
            try:
                yield websocket
            finally:
                self.standing, self._socket = False, None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await websocket.close()

    async def _talk(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Introduce ourselves, then read until the session ends."""
        await websocket.send_str(self._desk.hello(datetime.now(UTC)).model_dump_json(by_alias=True, exclude_none=True))
        async with asyncio.timeout(ANSWER_WITHIN):
            first = await websocket.receive()
        answer = self._read(first)
        if not isinstance(answer, Welcome):
            raise NoLeader("not the leader" if isinstance(answer, NotLeader) else f"closed with {websocket.close_code}")
        if not self._desk.welcome(answer.term):
            raise NoLeader(f"leads in term {answer.term}, but term {self._desk.term} has been seen")
        self._socket, self.standing, self._drained_said = websocket, True, False
        log.info("session stands", term=answer.term, holding=len(self._desk.holding), revoked=len(answer.revoked))
        for lease in answer.revoked:
            self._on_cancel(lease, True)
        speaking = asyncio.create_task(self._speak())
        try:
            async for message in websocket:
                self._hear(message)
        finally:
            speaking.cancel()
            log.info("session ended", code=websocket.close_code)

    def _read(self, message: aiohttp.WSMessage) -> Model | None:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        try:
            return FROM_CONTROLLER.validate_json(message.data)
        except ValidationError as error:
            # a newer controller may say what we do not know
            log.warning("message not understood", error=str(error.errors(include_input=False, include_url=False)[:1]))
            return None

    def _hear(self, message: aiohttp.WSMessage) -> None:
        said = self._read(message)
        match said:
            case Grant():
                if self._desk.grant(said):
                    self._on_grant(said)
                else:
                    log.info("grant refused", lease=str(said.lease), term=self._desk.term)
            case Cancel():
                self._on_cancel(said.lease, said.revoked)
            case Acceptance():
                self._desk.answered(said.lease, said.outcome)
                if said.outcome != "accepted":
                    log.info("report not accepted", lease=str(said.lease), outcome=said.outcome, reason=said.reason)
                self._on_answer()
            case Drain():
                self._desk.draining = not said.undo
                self._drained_said = False
                self._on_answer()
            case Duties():
                self._on_duties(said)
            case Publish():
                self._on_publish(said)
            case _:
                pass

    async def _speak(self) -> None:
        """Say everything that a fresh session has not heard, then Alive and what nobody has answered."""
        for progress in list(self._desk.progress.values()):
            await self.send(progress)
        while True:
            await self.say_alive()
            for report in self._desk.to_send(datetime.now(UTC)):
                await self.send(report)
            await self.say_drained()
            await asyncio.sleep(ALIVE_SECONDS)
