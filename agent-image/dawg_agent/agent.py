"""The agent: takes leases from the controller, supervises their Jobs, reports facts.

session (messages) ⇄ desk (what is held) → one Work an attempt → Progress, Report

What an attempt is, its lease says: a Job to supervise, a process for one of the slots in this agent's own pod, or a
built-in step that the agent itself carries out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
import uvloop

from dawg_agent import signs
from dawg_agent.desk import Desk
from dawg_agent.health import serve_health
from dawg_agent.kube import Kube
from dawg_agent.podwatch import PodWatch
from dawg_agent.publishing import Publishing
from dawg_agent.session import Session
from dawg_agent.settings import AgentSettings
from dawg_agent.step import Bench, StepAttempt, open_bench
from dawg_agent.supervise import Supervisor
from dawg_agent.upload import Door
from dawg_agent.warm import WarmAttempt, Workshop
from dawg_agent.watching import Watching
from dawg_agent.workshop import open_workshop
from dawg_orchestrator import __version__
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import Duties, Grant, Held, LeaseId, Progress, Publish
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult

TIDY = 10.0  # seconds between looks for results that nobody wants any more

log = structlog.get_logger()


class Work(Protocol):
    """One attempt on its way."""

    async def watch(self) -> TaskResult:
        """Return how the attempt ended."""
        ...

    def cancel(self) -> None:
        """The controller wants it to end."""
        ...

    async def see_log_through(self) -> None:
        """Let the log come to its end, within bounds."""
        ...

    def let_go(self) -> None:
        """Forget it."""
        ...


class Agent:
    """One agent's life; with a ``workshop`` it runs tasks in its own pod, with a ``bench`` it carries out steps."""

    def __init__(
        self,
        settings: AgentSettings,
        kube: Kube,
        door: Door,
        workshop: Workshop | None = None,
        bench: Bench | None = None,
    ) -> None:
        self._settings = settings
        self._kube = kube
        self._door = door
        self._pods = PodWatch(kube)
        self._workshop = workshop
        self._bench = bench
        self._desk = Desk(settings.pool, workshop.slots.usable if workshop else settings.slots, __version__)
        self._session = Session(
            settings, self._desk, self._begin, self._stop, self._look_whether_drained, self._take_duties, self._publish
        )
        steps = settings.steps
        self._watching = (
            Watching(self._session.send, steps.git_secrets_dir, steps.mirrors_dir, steps.forge_secrets_dir)
            if steps
            else None
        )
        self._publishing = Publishing(self._session.send, steps.forge_secrets_dir) if steps else None
        self._working: dict[LeaseId, tuple[Work, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False

    def why_unready(self) -> str | None:
        """Say why no task should be sent here; None: one may be."""
        if self._leaving or self._desk.draining:
            return "draining"
        return None if self._session.standing else "no session with a leading controller"

    async def live(self, stopping: asyncio.Event) -> None:
        """Work until told to stop, then leave in order."""
        own = self._watching.listen(self._door) if self._watching is not None else self._pods.keep()
        lasting = [asyncio.create_task(work) for work in (own, self._session.keep(), self._tidy())]
        told = asyncio.create_task(stopping.wait())
        try:
            done, _ = await asyncio.wait({told, *lasting}, return_when="FIRST_COMPLETED")
            for task in done - {told}:
                task.result()  # none of them ends by itself: this raises why
            await self._leave()
        finally:
            if self._watching is not None:
                await self._watching.close()
            if self._publishing is not None:
                await self._publishing.close()
            everything = [told, *lasting, *self._tasks]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _leave(self) -> None:
        """Tell the controller, hand over what is finished, and go: Jobs live on, another agent takes them over."""
        self._leaving = self._desk.draining = True
        await self._session.dial_again()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.leave_within.total_seconds()
        while not self._desk.empty and loop.time() < until:  # noqa: ASYNC110 - the desk changes by many hands
            await asyncio.sleep(0.1)
        await self._session.say_drained()
        log.info("leaving", still_held=len(self._desk.holding))

    def _begin(self, grant: Grant) -> None:
        held = self._desk.holding[grant.lease]
        work = self._work_of(held, grant)
        if work is None:
            self._end(grant.lease, _refused("the lease names no work that this agent can do"))
            return
        self._working[grant.lease] = work, self._start(self._do(held, work))
        if grant.process is None:  # in a slot, the beginning of the test is noted
            log.info("lease taken", lease=str(grant.lease), task=grant.key, run=grant.attempt.run)

    def _work_of(self, held: Held, grant: Grant) -> Work | None:
        if grant.job is not None:
            return Supervisor(held, grant.job, self._kube, self._pods, self._door, self._tell)
        if grant.process is not None and self._workshop is not None:
            return WarmAttempt(held, grant.process, self._workshop, self._tell)
        if grant.step is not None and self._bench is not None:
            return StepAttempt(held, grant.key, grant.step, self._bench, self._tell)
        return None

    async def _do(self, held: Held, work: Work) -> None:
        """See one attempt to its end, report it, and see its log through."""
        try:
            result = await self._result(held, work)
            self._working.pop(held.lease, None)
            self._end(held.lease, result)
            await work.see_log_through()
        finally:
            self._working.pop(held.lease, None)
            work.let_go()

    async def _result(self, held: Held, work: Work) -> TaskResult:
        try:
            return await work.watch()
        except Exception as error:  # a fault of ours must end in a result, or the task would hang
            log.exception("work failed", run=held.attempt.run, index=held.attempt.index)
            return _refused(f"the agent failed: {type(error).__name__}: {error}")

    def _end(self, lease: LeaseId, result: TaskResult) -> None:
        report = self._desk.finish(lease, result, datetime.now(UTC))
        if report is not None:
            facts = {"exit_code": result.exit_code, "infrastructure": result.infrastructure, "killed": result.killed}
            log.info("attempt ended", lease=str(lease), run=report.attempt.run, index=report.attempt.index, **facts)
            self._start(self._say(report))

    async def _say(self, message: Model) -> None:
        await self._session.send(message)

    def _tell(self, progress: Progress) -> None:
        if self._desk.news(progress):
            self._start(self._say(progress))

    def _stop(self, lease: LeaseId, revoked: bool) -> None:
        work, task = self._working.get(lease, (None, None))
        log.info("revoked" if revoked else "cancelled", lease=str(lease))
        if revoked:
            self._desk.forget(lease)
            if task is not None:
                task.cancel()
        elif work is not None:
            work.cancel()

    def slots_changed(self) -> None:
        """A slot has come or gone: the controller gives as much work as there are slots."""
        if self._workshop is not None:
            self._desk.slots = self._workshop.slots.usable
            self._start(self._session.say_alive())

    def _take_duties(self, duties: Duties) -> None:
        if self._watching is not None:
            self._watching.take(duties)

    def _publish(self, message: Publish) -> None:
        if self._publishing is not None:
            self._publishing.take(message)

    def _look_whether_drained(self) -> None:
        self._start(self._session.say_drained())

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY)
            for lease in self._desk.throw_away_old(datetime.now(UTC)):
                log.warning("result thrown away: no leader asked for it", lease=str(lease))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _refused(message: str) -> TaskResult:
    return TaskResult(infrastructure=Reason.AGENT_LOST, message=message, ended_at=datetime.now(UTC))


async def _run(settings: AgentSettings) -> None:
    stopping = asyncio.Event()
    signs.set_on_stop(stopping)
    kube = Kube.in_cluster(settings.namespace)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(kube.close)
        door = await stack.enter_async_context(
            Door(settings.api_url, settings.api_token, settings.ca, warm=settings.warm is not None)
        )
        workshop = await stack.enter_async_context(open_workshop(settings, kube, door)) if settings.warm else None
        bench = open_bench(settings.steps, kube, door) if settings.steps else None
        agent = Agent(settings, kube, door, workshop, bench)
        if workshop is not None:
            workshop.slots.on_change = agent.slots_changed
        await stack.enter_async_context(serve_health(settings.health_port, agent.why_unready))
        await agent.live(stopping)


def run_agent(settings: AgentSettings) -> int:
    """Live one agent's life; 0: it was told to stop."""
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=processors)  # type: ignore[arg-type]
    gc.freeze()  # what was imported stays: no collection need walk it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))
    return 0
