"""A cluster, its agents and a leader in memory, small enough to check every promise after every event.

The Desk is the real one. Jobs, pods and agents are modelled: a Job runs its test until somebody ends it, an agent
watches Jobs and reports, statuses are written late or not at all, and the leader may be replaced at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from builders import NAMESPACE, NOON, a_result, job_object, pod_object, pool_object, run_object
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.planning.plan import CancelRun, DeleteJob, StopAttempt
from dawg_orchestrator.resources.protocol import (
    Acceptance,
    AttemptRef,
    Cancel,
    Finished,
    FromController,
    Held,
    Hello,
    LeaseId,
    Report,
    Welcome,
)
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult

POOL = (NAMESPACE, "default")
JobKey = tuple[str, int, int]  # run uid, index, attempt


@dataclass
class ModelJob:
    """A Job with its one pod; ``result`` is set when its test has ended."""

    key: JobKey
    result: TaskResult | None = None
    deleting: bool = False

    @property
    def testing(self) -> bool:
        """Whether the test runs."""
        return self.result is None


@dataclass
class ModelAgent:
    """An agent; what it holds and what nobody has accepted yet survive its sessions."""

    name: str
    connected: bool = True
    holding: dict[LeaseId, AttemptRef] = field(default_factory=dict)
    finished: dict[LeaseId, Finished] = field(default_factory=dict)
    cancelled: set[LeaseId] = field(default_factory=set)

    @property
    def uid(self) -> str:
        """Of its pod."""
        return f"uid-{self.name}"


class ModelCluster:
    """Everything together; the public methods are the events."""

    def __init__(self) -> None:
        self.now = NOON
        self.version = 10
        self.runs: dict[str, dict[str, Any]] = {}  # by uid, as the API has them
        self.jobs: dict[JobKey, ModelJob] = {}
        self.ever_created: set[JobKey] = set()
        self.recorded: set[JobKey] = set()  # attempts that a status has named
        self.agents: dict[str, ModelAgent] = {}
        self.serial = 0
        self.letters: dict[str, str] = {}
        self.exclusive: set[tuple[str, int]] = set()
        self.desk = self._lead(1)
        self.start_agent()

    # Events

    def create_run(self, tasks: list[dict[str, Any]], **spec: Any) -> None:
        """Somebody applies a run."""
        self.serial += 1
        obj = run_object(f"run{self.serial}", *tasks, version=self._next(), created=self.now, **spec)
        uid = obj["metadata"]["uid"]
        self.runs[uid] = obj
        self.exclusive |= {(uid, n) for n, task in enumerate(tasks) if task.get("exclusive")}
        self.desk.see_run(obj)

    def cancel_run(self, pick: int) -> None:
        """Somebody cancels a run."""
        live = [run for run in self.runs.values() if not run["status"].get("verdict")]
        if live:
            run = live[pick % len(live)]
            run["spec"]["cancelled"] = True
            self._changed(run)

    def start_agent(self) -> None:
        """Another agent's pod comes up and connects."""
        self.serial += 1
        agent = ModelAgent(f"agent{self.serial}")
        self.agents[agent.name] = agent
        self.desk.see_pod(pod_object(agent.name))
        self.connect(agent)

    def kill_agent(self, pick: int) -> None:
        """An agent's pod is gone with all it knew."""
        agent = self._pick(pick)
        if agent is not None:
            del self.agents[agent.name]
            self.desk.lose_session(agent.uid, self.now)
            self.desk.drop_pod(pod_object(agent.name))

    def cut_session(self, pick: int) -> None:
        """An agent's connection breaks."""
        agent = self._pick(pick)
        if agent is not None and agent.connected:
            agent.connected = False
            self.desk.lose_session(agent.uid, self.now)

    def connect(self, agent: ModelAgent) -> None:
        """An agent says hello."""
        agent.connected = True
        held = [Held(lease=lease, attempt=attempt) for lease, attempt in agent.holding.items()]
        hello = Hello(pool="default", version="1", slots=2, holding=held, finished=list(agent.finished.values()))
        peer = Peer(agent.uid, agent.name, NAMESPACE, "default")
        for answer in self.desk.hear_hello(peer, hello, self.now):
            self._hear(agent, answer)

    def reconnect(self, pick: int) -> None:
        """An agent that was cut off finds the leader again."""
        away = [agent for agent in self.agents.values() if not agent.connected]
        if away:
            self.connect(away[pick % len(away)])

    def end_test(self, pick: int) -> None:
        """A test ends by itself: mostly well."""
        going = [job for job in self.jobs.values() if job.testing and not job.deleting]
        if going:
            outcome = pick % 5
            job = going[pick % len(going)]
            job.result = a_result(1) if outcome == 1 else a_result()
            if outcome == 2:
                job.result = a_result(None, infrastructure=Reason.EVICTED)

    def delete_job(self, pick: int) -> None:
        """Somebody outside deletes a Job."""
        jobs = list(self.jobs.values())
        if jobs:
            self._delete(jobs[pick % len(jobs)])

    def finish_deletions(self) -> None:
        """Pods of deleted Jobs are gone, and so are the Jobs."""
        for key, job in list(self.jobs.items()):
            if job.deleting:
                del self.jobs[key]
                self.desk.drop_job(self._object(job))

    def tick(self, seconds: int) -> None:
        """Time goes by."""
        self.now += timedelta(seconds=seconds)
        for agent in self.agents.values():
            if agent.connected:
                self.desk.table.agents[agent.uid].heard_at = self.now
        self.desk.end_silent(self.now)

    def restart(self) -> None:
        """The leader dies with all it knew; the next one has the API's objects, and agents call later."""
        for agent in self.agents.values():
            agent.connected = False
        self.desk = self._lead(self.desk.term + 1)

    def report(self, pick: int) -> None:
        """An agent sees that a Job of its has ended and says so; the word may be said twice."""
        agent = self._pick(pick)
        if agent is None:
            return
        for lease, attempt in list(agent.holding.items()):
            job = self.jobs.get((attempt.run_uid, attempt.index, attempt.attempt))
            ended = job.result if job is not None else a_result(None, infrastructure=Reason.POD_DELETED)
            if ended is None and job is not None and job.deleting:
                ended = a_result(None, killed=lease in agent.cancelled, infrastructure=None)
                if lease not in agent.cancelled:
                    ended = a_result(None, infrastructure=Reason.POD_DELETED)
            if ended is not None:
                del agent.holding[lease]
                agent.finished[lease] = Finished(lease=lease, attempt=attempt, result=ended)
        if agent.connected:
            for finished in list(agent.finished.values()):
                said = Report(lease=finished.lease, attempt=finished.attempt, result=finished.result)
                for answer in self.desk.hear(agent.uid, said, self.now):
                    self._hear(agent, answer)

    def reconcile(self, *, write: bool = True) -> None:
        """The leader looks at every run; the status may stay unwritten for now."""
        for run in list(self.desk.runs.values()):
            plan = self.desk.plan_run(run, self.now)
            for action in plan.actions:
                if isinstance(action, StopAttempt):
                    self._stop(run, action)
                elif isinstance(action, CancelRun):
                    self.desk.supersede(action.uid)
            if not write:
                continue
            self._write(run, plan.status)
            for action in plan.actions:
                if isinstance(action, DeleteJob):
                    for job in [
                        job for job in self.jobs.values() if self._object(job)["metadata"]["uid"] == action.uid
                    ]:
                        self._delete(job)
            if plan.finished:
                self.desk.drop_run(run.uid)

    def dispatch(self, *, lose: bool = False) -> None:
        """Free slots go to the queue; ``lose``: the API does not answer, though it may have heard."""
        assignments = self.desk.assign(POOL, self.now)
        recorded = set(self.recorded)
        started = [(given, self.desk.start(given, self.now)) for given in assignments]
        for n, (given, lease) in enumerate(started):
            attempt = lease.attempt
            key = (attempt.run_uid, attempt.index, attempt.attempt)
            if not given.task.adopt:
                run = self.desk.runs[attempt.run_uid]
                if (run.uid, attempt.index) in self.exclusive or run.spec.concurrency or attempt.attempt > 1:
                    self._write(run, self.desk.plan_run(run, self.now).status)
                if lose and n % 2:
                    self.desk.take_back(lease)
                    continue
                self._create(key, recorded)
                if lose:
                    self.desk.take_back(lease)
                    continue
            agent = next((agent for agent in self.agents.values() if agent.uid == lease.agent), None)
            if agent is not None and agent.connected:
                agent.holding[lease.id] = attempt

    # Inside

    def _lead(self, term: int) -> Desk:
        desk = Desk(term, lambda _key, _at: None, self.now)
        desk.see_pool(pool_object(minAgents=1))
        for agent in self.agents.values():
            desk.see_pod(pod_object(agent.name))
        for job in self.jobs.values():
            desk.see_job(self._object(job))
        for run in self.runs.values():
            desk.see_run(run)
        return desk

    def _create(self, key: JobKey, recorded: set[JobKey]) -> None:
        if key not in self.jobs:
            # A grant that was not yet on status may run again after a restart; one that was may not.
            assert key not in self.ever_created & recorded, f"the Job of attempt {key} was created twice"
            self.ever_created.add(key)
            self.jobs[key] = ModelJob(key)
        self.desk.see_job(self._object(self.jobs[key]))

    def _delete(self, job: ModelJob) -> None:
        if not job.deleting:
            job.deleting = True
            self.desk.see_job(self._object(job))

    def _stop(self, run: Run, action: StopAttempt) -> None:
        lease = self.desk.table.holder((run.uid, action.index))
        agent = next((agent for agent in self.agents.values() if lease and agent.uid == lease.agent), None)
        if agent is not None and lease is not None and agent.connected:
            agent.cancelled.add(lease.id)
        fact = run.jobs.get(action.index)
        if fact is not None:
            job = self.jobs.get((run.uid, fact.index, fact.attempt))
            if job is not None:
                self._delete(job)

    def _write(self, run: Run, status: dict[str, Any]) -> None:
        obj = self.runs[run.uid]
        before, after = self.letters.get(run.uid, ""), status["taskVerdicts"]
        changed = [n for n, (old, new) in enumerate(zip(before, after, strict=False)) if old not in (".", new)]
        assert not changed, f"verdicts changed: {before} → {after}"
        assert not obj["status"].get("verdict"), "a finished run was written again"
        self.letters[run.uid] = after
        self.recorded |= {(run.uid, entry["index"], entry["attempt"]) for entry in status["tasks"]}
        obj["status"] = status
        obj["metadata"]["resourceVersion"] = str(self._next())
        run.status, run.version = status, self.version
        for uid, lease in run.awaiting:
            agent = next((agent for agent in self.agents.values() if agent.uid == uid), None)
            if agent is not None and agent.connected:
                self._hear(agent, Acceptance(lease=lease, outcome="accepted"))
        run.awaiting.clear()

    def _hear(self, agent: ModelAgent, said: FromController) -> None:
        if isinstance(said, Welcome):
            for lease in said.revoked:
                agent.holding.pop(lease, None)
        elif isinstance(said, Acceptance) and said.outcome != "later":
            agent.finished.pop(said.lease, None)
        elif isinstance(said, Cancel):
            agent.cancelled.add(said.lease)

    def _changed(self, run: dict[str, Any]) -> None:
        run["metadata"]["resourceVersion"] = str(self._next())
        self.desk.see_run(run)

    def _object(self, job: ModelJob) -> dict[str, Any]:
        return job_object(*job.key, deleting=job.deleting)

    def _pick(self, pick: int) -> ModelAgent | None:
        agents = list(self.agents.values())
        return agents[pick % len(agents)] if agents else None

    def _next(self) -> int:
        self.version += 1
        return self.version


def check(world: ModelCluster) -> None:
    """What must hold after every event."""
    held: dict[tuple[str, int], str] = {}
    for agent in world.desk.table.agents.values():
        for lease in world.desk.table.of_agent(agent.uid):
            assert lease.task not in held, f"{lease.task} is held twice"
            held[lease.task] = agent.uid
    for run in world.desk.runs.values():
        for index, state in enumerate(run.states):
            assert not (state.done and state.running), f"{run.name} task {index} has a verdict and runs"
    for uid, index in world.exclusive:
        testing = [job for key, job in world.jobs.items() if key[:2] == (uid, index) and job.testing]
        assert len(testing) <= 1, f"exclusive task {index} of {uid} runs twice at once"


def come_to_rest(world: ModelCluster, latest: datetime) -> None:
    """The faults stop: all agents are back, tests end well. Returns when every run is finished."""
    if not world.agents:
        world.start_agent()
    while not all(run["status"].get("verdict") for run in world.runs.values()):
        assert world.now < latest, "not everything ends: " + repr(
            [(run.name, run.states, run.jobs) for run in world.desk.runs.values()]
        )
        for agent in world.agents.values():
            if not agent.connected:
                world.connect(agent)
        for n in range(len(world.jobs)):
            world.end_test(5 * n)
        for n in range(len(world.agents)):
            world.report(n)
        world.reconcile()
        world.dispatch()
        world.finish_deletions()
        world.tick(20)
        check(world)
