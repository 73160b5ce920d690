"""The agents' door over real TLS, with an agent that does not behave."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

import realparts
from builders import NAMESPACE, NOON, pod_object, pool_object
from dawg_orchestrator.controller.clock import now
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.resources.protocol import SESSION_PATH, Drain, Hello, Welcome

AGENT = Peer("uid-agent-1", "agent-1", NAMESPACE, "default")
PATIENCE = 10.0


@pytest.fixture
def desk() -> Desk:
    """A desk that knows the pool and the pod of the agent."""
    desk = Desk(1, lambda *_: None, NOON)
    desk.see_pool(pool_object())
    desk.see_pod(pod_object(AGENT.pod))
    return desk


@pytest.fixture
def port() -> int:
    return realparts.free_port()


@pytest.fixture
async def sessions(desk: Desk, port: int, certificates: Path) -> AsyncIterator[Sessions]:
    """The door of a leader; every token is the agent's."""

    async def identify(_token: str) -> Peer:
        return AGENT

    sessions = Sessions(identify, now)
    sessions.serve(desk)
    await sessions.open(port, certificates)
    yield sessions
    await sessions.close()


@pytest.fixture
async def agent(sessions: Sessions, port: int, certificates: Path) -> AsyncIterator[ClientWebSocketResponse]:
    """An agent's socket that has been welcomed, and never answers a closing word."""
    del sessions
    tls = ssl.create_default_context(cafile=certificates / "tls.crt")
    url = f"https://127.0.0.1:{port}{SESSION_PATH}"
    headers = {"Authorization": "Bearer any"}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as client,
        client.ws_connect(url, headers=headers, autoclose=False, server_hostname="dawg-controller") as socket,
    ):
        hello = Hello(pool=AGENT.pool, version="1", slots=2)
        await socket.send_str(hello.model_dump_json(by_alias=True))
        Welcome.model_validate_json(await socket.receive_str(timeout=PATIENCE))
        yield socket


async def test_an_agent_that_nothing_can_be_sent_to_is_not_counted_as_connected(
    desk: Desk, sessions: Sessions, agent: ClientWebSocketResponse
) -> None:
    assert await sessions.send(AGENT.uid, Drain())
    assert desk.table.agents[AGENT.uid].connected

    await agent.send_str("no message")
    async with asyncio.timeout(PATIENCE):
        while (await agent.receive()).type is not WSMsgType.CLOSE:
            pass

    # The controller waits for the agent's part of the good-bye, which does not come.
    assert not await sessions.send(AGENT.uid, Drain())
    assert not desk.table.agents[AGENT.uid].connected
