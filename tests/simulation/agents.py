"""Agents: the product's own bookkeeping (`dawg_agent.desk`), around it a session and the work, in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from builders import a_result
from dawg_agent.desk import Desk
from dawg_agent.session import HEARTBEAT
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import (
    ALIVE_SECONDS,
    Acceptance,
    Alive,
    AttemptRef,
    Cancel,
    Drain,
    Drained,
    FromAgent,
    FromController,
    Grant,
    LeaseId,
    NotLeader,
    Progress,
    Report,
    Welcome,
)
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from simulation.faults import Fault
from simulation.kubernetes import Execution
from simulation.links import Link

if TYPE_CHECKING:
    from simulation.apiserver import JsonObject
    from simulation.world import World

_DIAL_AGAIN = (0.05, 1.0)
_ANSWER_WITHIN = 5.0


class AgentProcess:
    """One agent's pod. ``restart`` begins its process anew: all that it knew is gone, and so are its own tests."""

    def __init__(self, world: World, pod: JsonObject) -> None:
        self.world = world
        metadata = pod["metadata"]
        self.name, self.uid, self.namespace = metadata["name"], metadata["uid"], metadata["namespace"]
        self.pool = metadata["labels"][names.POOL]
        self.in_slots = metadata["labels"][names.EXECUTOR] == "Process"
        self.parted = False
        self._begin_process()

    @property
    def reachable(self) -> bool:
        """Whether the network reaches it."""
        return not self.parted

    def _begin_process(self) -> None:
        self.process = self.world.loop.process(self.name)
        self.desk = Desk(self.pool, 2, "simulated")
        self.link: Link | None = None
        self.executions: dict[LeaseId, Execution] = {}  # in its own slots
        self.jobs: dict[LeaseId, str] = {}  # uids of supervised Jobs
        self.cancelled: set[LeaseId] = set()
        self._welcome = False
        self._said: list[FromAgent] = []
        self._later(0.2, self._dial)
        self._later(ALIVE_SECONDS, self._tick)

    def die(self) -> None:
        """Everything in the pod ends."""
        self.process.dead = True
        for execution in self.executions.values():
            self.world.kubernetes.end(execution, killed=True)
        if self.link is not None:
            self.link.close()

    def part(self) -> None:
        """The network does not reach it."""
        self.parted = True

    def rejoin(self) -> None:
        """The network is back."""
        self.parted = False
        if self.link is not None:
            self.link.go_on()

    def restart(self) -> None:
        """The container starts again."""
        self.die()
        self._begin_process()

    def _later(self, seconds: float, call: object, *args: object) -> None:
        self.world.loop.call_later(seconds, call, *args, context=self.process.context)

    # The session

    def _dial(self) -> None:
        if self.link is not None:
            return
        doors = self.world.doors()
        self.world.chance.shuffle(doors)
        for door in doors:
            if self.reachable and not door.process.frozen:
                self.link = Link(self.world, self, door)
                self._welcome = False
                self.link.to_door(self.desk.hello(self.world.time()))
                self._later(_ANSWER_WITHIN, self._give_up, self.link)
                return
        self._dial_again()

    def _dial_again(self) -> None:
        self._later(self.world.chance.uniform(*_DIAL_AGAIN), self._dial)

    def _give_up(self, link: Link) -> None:
        if self.link is link and not self._welcome:
            link.close()

    def lose(self, link: Link) -> None:
        """The connection is gone."""
        if self.link is link:
            self.link = None
            self._dial_again()

    def _tick(self) -> None:
        """Every few seconds: the heartbeat, Alive, and what nobody has answered."""
        self._later(ALIVE_SECONDS, self._tick)
        self.desk.throw_away_old(self.world.time())
        link = self.link
        if link is None:
            return
        link.look()
        if self.world.loop.time() - link.answered_at > 1.5 * HEARTBEAT:
            link.close()
        elif self._welcome:
            self._speak()

    def _speak(self) -> None:
        self._say(Alive(slots=self.desk.slots, holding=list(self.desk.holding)))
        for report in self.desk.to_send(self.world.time()):
            self._say(report)
        if self.desk.draining and self.desk.empty:
            self._say(Drained())

    def _say(self, message: FromAgent) -> None:
        if self.link is None or not self._welcome:
            return
        self.link.to_door(message)
        if isinstance(message, Report):
            self.desk.sent(message.lease, self.world.time())
            if self.world.faults.strikes(Fault.MESSAGE_TWICE, 0.3):
                self._later(self.world.chance.uniform(0, 4), self._say, message)

    def hear(self, link: Link, message: FromController) -> None:
        """A word of the controller."""
        if link is not self.link:
            return
        match message:
            case Welcome():
                self._hear_welcome(link, message)
            case NotLeader():
                link.close()
            case Grant() if self._welcome and self.desk.grant(message):
                self._begin(message)
            case Cancel():
                self._stop(message.lease, revoked=message.revoked)
            case Acceptance():
                self.world.promises.answered(self, message)
                self.desk.answered(message.lease, message.outcome)
                self._look_whether_drained()
            case Drain():
                self.desk.draining = not message.undo
                self._look_whether_drained()

    def _hear_welcome(self, link: Link, welcome: Welcome) -> None:
        if not self.desk.welcome(welcome.term):
            link.close()
            return
        self._welcome = True
        for lease in welcome.revoked:
            self._stop(lease, revoked=True)
        for progress in list(self.desk.progress.values()):
            self._say(progress)
        self._speak()

    def _look_whether_drained(self) -> None:
        if self.desk.draining and self.desk.empty:
            self._say(Drained())

    # The work

    def _begin(self, grant: Grant) -> None:
        if grant.process is not None:
            self._later(self.world.chance.uniform(0.002, 0.05), self._start_in_slot, grant.lease, grant.attempt)
        elif grant.job is not None:
            self.jobs[grant.lease] = grant.job.job_uid
            self._see_job(grant.lease)

    def _start_in_slot(self, lease: LeaseId, attempt: AttemptRef) -> None:
        if lease not in self.desk.holding:
            return
        if lease in self.cancelled:
            self._end(lease, a_result(None, killed=True))
            return
        execution = self.world.kubernetes.run((attempt.run_uid, attempt.index), attempt.attempt)
        self.executions[lease] = execution
        execution.on_end.append(lambda: self._later(0.005, self._see_execution, lease))
        self._tell_start(lease, attempt)

    def _tell_start(self, lease: LeaseId, attempt: AttemptRef) -> None:
        progress = Progress(lease=lease, attempt=attempt, reason=Reason.RUNNING, started_at=self.world.time())
        if self.desk.news(progress):
            self._say(progress)

    def _see_execution(self, lease: LeaseId) -> None:
        execution = self.executions[lease]
        self._end(lease, self._seen(execution, lease))

    def job_news(self, job_uid: str) -> None:
        """The watch of pods tells, a little later."""
        for lease, uid in list(self.jobs.items()):
            if uid == job_uid:
                self._later(self.world.chance.uniform(0.01, 0.6), self._see_job, lease)

    def _see_job(self, lease: LeaseId) -> None:
        held = self.desk.holding.get(lease)
        uid = self.jobs.get(lease)
        if held is None or uid is None:
            return
        pod = self.world.kubernetes.job_pods.get(uid)
        execution = pod.execution if pod is not None else None
        if execution is not None and execution.running:
            self._tell_start(lease, held.attempt)
            return
        if execution is None and self.world.job_stands(uid):
            return  # its pod has not begun
        del self.jobs[lease]
        self._end(lease, self._seen(execution, lease))

    def _seen(self, execution: Execution | None, lease: LeaseId) -> TaskResult:
        now = self.world.time()
        times = (
            {"started_at": now - timedelta(seconds=self.world.loop.time() - execution.started_at)} if execution else {}
        )
        if execution is not None and execution.evicted:
            return a_result(None, infrastructure=Reason.EVICTED, ended_at=now, **times)
        if execution is not None and not execution.killed:
            return a_result(execution.exit_code, ended_at=now, **times)
        if lease in self.cancelled:
            return a_result(None, killed=True, ended_at=now, **times)
        return a_result(None, infrastructure=Reason.POD_DELETED, ended_at=now, **times)

    def _end(self, lease: LeaseId, result: TaskResult) -> None:
        report = self.desk.finish(lease, result, self.world.time())
        if report is not None:
            self._say(report)

    def _stop(self, lease: LeaseId, *, revoked: bool) -> None:
        self.cancelled.add(lease)
        if revoked:
            self.desk.forget(lease)
            self.jobs.pop(lease, None)
        execution = self.executions.get(lease)
        if execution is not None and execution.running:
            self._later(0.05, self._kill, execution)

    def _kill(self, execution: Execution) -> None:
        self.world.kubernetes.end(execution, killed=True)
