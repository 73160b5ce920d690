"""Sessions over real TLS with a controller that says what the test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from aiohttp import WSMsgType, web

from dawg_agent.agent import Agent
from dawg_agent.desk import Desk
from dawg_agent.session import Session
from dawg_agent.settings import AgentSettings, read_agent_settings
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import (
    FROM_AGENT,
    SESSION_PATH,
    Acceptance,
    AttemptRef,
    Cancel,
    Drain,
    Drained,
    Grant,
    Hello,
    JobOrder,
    LeaseId,
    NotLeader,
    Progress,
    Report,
    StepOrder,
    Welcome,
)
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from integration.agent.stepbench import a_bench, serving

ATTEMPT = AttemptRef(namespace="shop", run="checkout-x", run_uid="run-1", index=0, attempt=1)
LEASE = LeaseId(term=2, number=1)
GRANT = Grant(lease=LEASE, attempt=ATTEMPT, key="unit", job=JobOrder(job="j", job_uid="u"))
PATIENCE = 10.0
Said = TypeVar("Said", bound=Model)


@dataclass
class Controller:
    """One controller pod. ``answer`` is what it says to Hello."""

    answer: Callable[[], Model]
    address: str = "127.0.0.1"
    port: int = 0
    heard: asyncio.Queue[Model] = field(default_factory=asyncio.Queue)
    tokens: list[str | None] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)

    async def session(self, request: web.Request) -> web.WebSocketResponse:
        self.tokens.append(request.headers.get("Authorization"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                said = FROM_AGENT.validate_json(message.data)
                await self.heard.put(said)
                if isinstance(said, Hello):
                    await self.say(self.answer())
        return socket

    async def say(self, message: Model) -> None:
        await self.sockets[-1].send_str(message.model_dump_json(by_alias=True))
        if isinstance(message, NotLeader):
            await self.sockets[-1].close()

    async def hear(self, kind: type[Said]) -> Said:
        async with asyncio.timeout(PATIENCE):
            while True:
                said = await self.heard.get()
                if isinstance(said, kind):
                    return said

    @asynccontextmanager
    async def serving(self, certificates: Path) -> AsyncIterator[None]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        application = web.Application()
        application.add_routes([web.get(SESSION_PATH, self.session)])
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, self.address, self.port, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()


@dataclass
class Side:
    """The agent's side: what the controller asked of it."""

    desk: Desk
    session: Session
    granted: list[Grant] = field(default_factory=list)
    cancelled: list[tuple[LeaseId, bool]] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - any of many things may make it hold
                await asyncio.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path, certificates: Path) -> AgentSettings:
    (tmp_path / "token").write_text("first\n")
    return read_agent_settings({
        "DAWG_POOL": "default", "DAWG_NAMESPACE": "shop", "DAWG_POD": "agent-1", "DAWG_SLOTS": "2",
        "DAWG_API_URL": "https://api", "DAWG_CONTROLLER_TOKEN_FILE": str(tmp_path / "token"),
        "DAWG_CA_FILE": str(certificates / "tls.crt"), "DAWG_CONTROLLER": "dawg-controller:1",
    })  # fmt: skip


@asynccontextmanager
async def an_agent(
    settings: AgentSettings, monkeypatch: pytest.MonkeyPatch, *controllers: Controller, host: str = "dawg-controller"
) -> AsyncIterator[Side]:
    """Keep a session; the Service's name stands for the controllers' addresses, as a headless Service does."""
    from dataclasses import replace

    async def addresses(_: Session) -> list[tuple[int, str]]:
        return [(2, controller.address) for controller in controllers]

    monkeypatch.setattr(Session, "_addresses", addresses)
    settings = replace(settings, controller_host=host, controller_port=controllers[0].port)
    desk = Desk("default", 2, "test")
    granted: list[Grant] = []
    cancelled: list[tuple[LeaseId, bool]] = []

    def on_cancel(lease: LeaseId, revoked: bool) -> None:
        cancelled.append((lease, revoked))

    session = Session(settings, desk, granted.append, on_cancel, lambda: None, lambda _: None, lambda _: None)
    keeping = asyncio.create_task(session.keep())
    try:
        yield Side(desk, session, granted, cancelled)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def welcome(term: int = 2, *revoked: LeaseId) -> Callable[[], Model]:
    return lambda: Welcome(term=term, revoked=list(revoked))


async def test_an_agent_finds_the_leader_among_all_addresses(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standby, leader = Controller(NotLeader), Controller(welcome(), address="127.0.0.2")
    async with standby.serving(certificates):
        leader.port = standby.port
        async with leader.serving(certificates), an_agent(settings, monkeypatch, standby, leader) as agent:
            hello = await leader.hear(Hello)
            await agent.until(lambda: agent.session.standing)

            assert (hello.pool, hello.slots, hello.holding) == ("default", 2, [])
            assert leader.tokens == ["Bearer first"]


async def test_work_goes_down_and_facts_come_up(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Controller(welcome())
    async with leader.serving(certificates), an_agent(settings, monkeypatch, leader) as agent:
        await agent.until(lambda: agent.session.standing)
        await leader.say(GRANT)
        await agent.until(lambda: agent.granted)
        progress = Progress(lease=LEASE, attempt=ATTEMPT, reason=Reason.RUNNING, started_at=datetime.now(UTC))
        assert agent.desk.news(progress)
        await agent.session.send(progress)
        assert (await leader.hear(Progress)).reason is Reason.RUNNING
        await leader.say(Cancel(lease=LEASE, reason=Reason.CANCELLED))
        await agent.until(lambda: agent.cancelled == [(LEASE, False)])
        report = agent.desk.finish(LEASE, TaskResult(killed=True), datetime.now(UTC))
        assert report is not None
        await agent.session.send(report)
        assert (await leader.hear(Report)).result.killed
        await leader.say(Acceptance(lease=LEASE, outcome="accepted"))
        await agent.until(lambda: agent.desk.empty)
        await leader.say(Drain())
        await leader.hear(Drained)

        assert agent.desk.draining


async def test_a_result_survives_the_leaders_death(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leader = Controller(welcome())
    async with leader.serving(certificates), an_agent(settings, monkeypatch, leader) as agent:
        await agent.until(lambda: agent.session.standing)
        await leader.say(GRANT)
        await agent.until(lambda: agent.granted)
        await leader.hear(Hello)
        (tmp_path / "token").write_text("second")
        leader.answer = welcome(3)
        await leader.sockets[-1].close()
        await agent.until(lambda: not agent.session.standing)
        agent.desk.finish(LEASE, TaskResult(exit_code=0), datetime.now(UTC))
        hello = await leader.hear(Hello)
        if not hello.finished:  # the session was back before the result: it comes by itself
            assert (await leader.hear(Report)).lease == LEASE
        else:
            assert [finished.lease for finished in hello.finished] == [LEASE]

        assert leader.tokens[-1] == "Bearer second"


async def test_a_new_leader_hears_what_is_held_and_may_revoke_it(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Controller(welcome())
    async with leader.serving(certificates), an_agent(settings, monkeypatch, leader) as agent:
        await agent.until(lambda: agent.session.standing)
        await leader.hear(Hello)
        await leader.say(GRANT)
        await agent.until(lambda: agent.granted)
        leader.answer = welcome(3, LEASE)
        await leader.sockets[-1].close()

        assert [held.lease for held in (await leader.hear(Hello)).holding] == [LEASE]
        await agent.until(lambda: agent.cancelled == [(LEASE, True)])


async def test_an_agent_of_built_in_steps_carries_them_out_while_no_controller_leads(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dataclasses import replace

    leader, stopping = Controller(welcome()), asyncio.Event()
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with leader.serving(certificates), a_bench(tmp_path) as bench, serving(web.get("/", slow)) as url:
        monkeypatch.setattr(Session, "_addresses", lambda _: asyncio.sleep(0, [(2, leader.address)]))
        ours = replace(settings, controller_port=leader.port, leave_within=timedelta())
        agent = Agent(ours, bench.kube, bench.door, bench=bench.bench())
        living = asyncio.create_task(agent.live(stopping))
        await leader.hear(Hello)
        check = {"checks": [{"name": "web", "http": {"url": url}}], "timeout": "20s"}
        order = StepOrder(uses="health-check", inputs=check)
        await leader.say(Grant(lease=LEASE, attempt=ATTEMPT, key="look", step=order))
        progress = await leader.hear(Progress)
        leader.answer = NotLeader
        await leader.sockets[-1].close()
        await leader.hear(Hello)
        release.set()
        await asyncio.sleep(0.2)
        leader.answer = welcome(3)
        while not (said := await leader.hear(Hello)).finished:
            pass
        stopping.set()
        await living

    assert (progress.reason, progress.started_at is not None) == (Reason.RUNNING, True)
    [finished] = [one for one in said.finished if one.lease == LEASE]
    assert (finished.result.exit_code, finished.result.message) == (0, "all 1 targets are healthy")


async def test_a_former_leader_is_not_followed(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = Controller(welcome(4))
    async with former.serving(certificates), an_agent(settings, monkeypatch, former) as agent:
        agent.desk.term = 5
        await former.hear(Hello)
        await former.hear(Hello)  # it went away and came back

        assert not agent.session.standing


async def test_a_certificate_for_another_name_is_refused(
    settings: AgentSettings, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = Controller(welcome())
    async with impostor.serving(certificates), an_agent(settings, monkeypatch, impostor, host="other") as agent:
        await asyncio.sleep(0.5)

        assert impostor.tokens == []
        assert not agent.session.standing
