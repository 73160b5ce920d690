"""The leader's working memory: runs, pools, Jobs, agents and leases, rebuilt from the cluster at every start.

No I/O and no waiting here: watches and sessions put in what they hear, the reconcilers take out plans. So the whole
core can be driven by a simulation with its own clock. Every method leaves the desk consistent before it returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dawg_orchestrator.controller.records import Pool, Run, parse_job, parse_pool, parse_run, refresh_run, version_of
from dawg_orchestrator.controller.workqueue import Key
from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.agentpool import AgentFact, Assignment, DeploymentFact, PoolFacts, waiting_reason
from dawg_orchestrator.planning.agentpool import plan_dispatch as plan_assignments
from dawg_orchestrator.planning.agentpool import plan_pool as plan_pool_facts
from dawg_orchestrator.planning.lease import Agent, Lease, LeaseTable, is_current
from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.plan import PoolPlan, RunPlan
from dawg_orchestrator.planning.testrun import GroupRun, JobFact, PoolFact, RunFacts, plan_testrun
from dawg_orchestrator.planning.verdict import judge
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import (
    Acceptance,
    AttemptRef,
    Drained,
    Finished,
    FromAgent,
    FromController,
    Hello,
    LeaseId,
    Progress,
    Report,
    Welcome,
)

JsonObject = dict[str, Any]
PoolKey = tuple[str, str]  # namespace, name
_REMEMBER_OVER = 20_000  # runs; a watch event is never later than that many others
MARKED_REMOVABLE = "-100"  # pod-deletion-cost of a drained agent


@dataclass(frozen=True, slots=True)
class Peer:
    """Who an agent is, read from its token and its live pod."""

    uid: str
    pod: str
    namespace: str
    pool: str


@dataclass(slots=True)
class AgentPod:
    """An agent's pod."""

    pod: str
    uid: str
    namespace: str
    pool: str
    template_hash: str
    created: str
    ready: bool
    failed: bool
    removable: bool


class Desk:
    """Everything the leader knows; ``wake`` is called with keys that should be looked at."""

    def __init__(self, term: int, wake: Callable[[Key, datetime | None], None], serving_since: datetime) -> None:
        self.term = term
        self.table = LeaseTable(term)
        self.serving_since = serving_since
        self.runs: dict[str, Run] = {}  # by uid
        self.pools: dict[PoolKey, Pool] = {}
        self.deployments: dict[PoolKey, dict[str, DeploymentFact]] = defaultdict(dict)
        self.agent_pods: dict[str, AgentPod] = {}
        self._uid_by_name: dict[PoolKey, str] = {}
        self._jobs: dict[str, dict[int, JobFact]] = defaultdict(dict)  # of all runs, known before or after their run
        self._groups: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._ready: dict[PoolKey, dict[str, tuple[QueuedTask, ...]]] = defaultdict(dict)
        self._running: dict[PoolKey, dict[str, int]] = defaultdict(dict)
        self._over: dict[str, None] = {}  # uids of runs that are finished or gone: a late event brings none back
        self._wake = wake

    # What the cluster says

    def see_run(self, obj: JsonObject) -> None:
        """A TestRun as listed or watched; older words than we know are ignored."""
        metadata = obj["metadata"]
        uid, key = metadata["uid"], (metadata["namespace"], metadata["name"])
        if uid in self._over:
            return
        run = self.runs.get(uid)
        if (obj.get("status") or {}).get("verdict") or "deletionTimestamp" in metadata:
            if run is not None and version_of(obj) >= run.version:
                self.drop_run(uid)
            return
        former = self._uid_by_name.get(key)
        if former is not None and former != uid:
            self.drop_run(former)  # deleted and created again under the same name
        if run is None:
            run = parse_run(obj, self._jobs[uid])
            self.runs[uid] = run
            self._uid_by_name[key] = uid
            if run.group is not None:
                self._groups[run.group].add(uid)
        elif version_of(obj) > run.version:
            refresh_run(run, obj)
        self.wake_run(run)

    def drop_run(self, uid: str) -> None:
        """The run has its verdict on status, or is gone from the cluster; its leases end, it never comes back."""
        self._over[uid] = None
        if len(self._over) > _REMEMBER_OVER:
            del self._over[next(iter(self._over))]
        run = self.runs.pop(uid, None)
        self._jobs.pop(uid, None)
        if run is None:
            return
        if self._uid_by_name.get((run.namespace, run.name)) == uid:
            del self._uid_by_name[run.namespace, run.name]
        if run.group is not None:
            self._groups[run.group].discard(uid)
            self._wake_group(run)
        for index in range(len(run.states)):
            self.table.end((uid, index))
        self._index_queue(run, (), {})

    def run_named(self, namespace: str, name: str) -> Run | None:
        """The unfinished run of that name."""
        uid = self._uid_by_name.get((namespace, name))
        return self.runs.get(uid) if uid else None

    def see_job(self, obj: JsonObject) -> None:
        """A Job of a task as listed, watched or just created."""
        parsed = parse_job(obj)
        if parsed is None:
            return
        run_uid, job = parsed
        known = self._jobs[run_uid].get(job.index)
        if known is not None and known.attempt > job.attempt:
            return
        self._jobs[run_uid][job.index] = job
        run = self.runs.get(run_uid)
        if run is not None and (known is None or known != job):
            self.wake_run(run)

    def drop_job(self, obj: JsonObject) -> None:
        """A Job is gone."""
        parsed = parse_job(obj)
        if parsed is None:
            return
        run_uid, job = parsed
        known = self._jobs.get(run_uid, {}).get(job.index)
        if known is not None and known.uid == job.uid:
            del self._jobs[run_uid][job.index]
        run = self.runs.get(run_uid)
        if run is not None:
            self.wake_run(run)

    def drop_job_of(self, job_uid: str) -> None:
        """A Job of this uid is gone, as a list has shown."""
        for run in self.runs.values():
            for index, job in list(run.jobs.items()):
                if job.uid == job_uid:
                    del run.jobs[index]
                    self.wake_run(run)

    def see_pool(self, obj: JsonObject) -> None:
        """An AgentPool as listed or watched."""
        parsed = parse_pool(obj)
        key = (parsed.namespace, parsed.name)
        known = self.pools.get(key)
        if known is not None and known.uid == parsed.uid:
            if version_of(obj) <= known.version:
                return
            known.version, known.generation = parsed.version, parsed.generation
            known.spec, known.status = parsed.spec, parsed.status
        else:
            self.pools[key] = parsed
            self._wake_waiting(key)
        self.wake_pool(key)

    def drop_pool(self, namespace: str, name: str) -> None:
        """An AgentPool is gone; its Deployments go by ownership."""
        self.pools.pop((namespace, name), None)
        self._wake_waiting((namespace, name))

    def see_deployment(self, obj: JsonObject) -> None:
        """A Deployment of agents."""
        metadata, labels = obj["metadata"], obj["metadata"].get("labels") or {}
        key = (metadata["namespace"], labels.get(names.POOL, ""))
        self.deployments[key][metadata["name"]] = DeploymentFact(
            metadata["name"],
            labels.get(names.TEMPLATE, ""),
            obj["spec"].get("replicas", 1),
            metadata["creationTimestamp"],
        )
        self.wake_pool(key)

    def drop_deployment(self, obj: JsonObject) -> None:
        """A Deployment of agents is gone."""
        metadata, labels = obj["metadata"], obj["metadata"].get("labels") or {}
        key = (metadata["namespace"], labels.get(names.POOL, ""))
        self.deployments[key].pop(metadata["name"], None)
        self.wake_pool(key)

    def see_pod(self, obj: JsonObject) -> None:
        """An agent's pod; one that is being deleted or is over counts no more, one that is over loses its leases."""
        metadata, status = obj["metadata"], obj.get("status") or {}
        labels = metadata.get("labels") or {}
        failed = status.get("phase") in ("Failed", "Succeeded")
        if failed:
            self._end_agent(metadata["uid"])
        if "deletionTimestamp" in metadata:
            self._forget_pod(metadata["uid"])
            return
        conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
        annotations = metadata.get("annotations") or {}
        pod = AgentPod(
            pod=metadata["name"],
            uid=metadata["uid"],
            namespace=metadata["namespace"],
            pool=labels.get(names.POOL, ""),
            template_hash=labels.get(names.TEMPLATE, ""),
            created=metadata["creationTimestamp"],
            ready=conditions.get("Ready") == "True",
            failed=failed,
            removable=annotations.get("controller.kubernetes.io/pod-deletion-cost") == MARKED_REMOVABLE,
        )
        if self.agent_pods.get(pod.uid) != pod:
            self.agent_pods[pod.uid] = pod
            self.wake_pool((pod.namespace, pod.pool))

    def drop_pod(self, obj: JsonObject) -> None:
        """An agent's pod is gone: so are its leases."""
        uid = obj["metadata"]["uid"]
        self._end_agent(uid)
        self._forget_pod(uid)

    # What agents say

    def hear_hello(self, peer: Peer, hello: Hello, now: datetime) -> list[FromController]:
        """An agent opens its session: take over what it holds, look at what it has finished."""
        self.table.agents[peer.uid] = Agent(
            peer.uid, peer.pod, peer.namespace, peer.pool, hello.slots, now, draining=hello.draining
        )
        revoked = [held.lease for held in hello.holding if not self._keeps(peer, held.lease, held.attempt)]
        answers: list[FromController] = [Welcome(term=self.term, revoked=revoked)]
        for finished in hello.finished:
            answers += self._hear_end(peer.uid, finished, now)
        said = {(held.attempt.run_uid, held.attempt.index) for held in hello.holding}
        for lease in self.table.of_agent(peer.uid):
            if lease.task not in said:  # granted, but never arrived: free it for somebody else
                self.table.end(lease.task)
                self._wake_task(lease)
        self.wake_pool((peer.namespace, peer.pool))
        return answers

    def hear(self, uid: str, message: FromAgent, now: datetime) -> list[FromController]:
        """Any later word of an agent; answers to send back at once."""
        agent = self.table.agents.get(uid)
        if agent is None:
            return []
        agent.heard_at = now
        if isinstance(message, Report):
            finished = Finished(lease=message.lease, attempt=message.attempt, result=message.result)
            return self._hear_end(uid, finished, now)
        if isinstance(message, Progress):
            self._hear_progress(uid, message)
        elif isinstance(message, Drained):
            agent.drained = True
            self.wake_pool((agent.namespace, agent.pool))
        return []

    def lose_session(self, uid: str, now: datetime) -> None:
        """The connection is gone; the leases stay for a while, the agent may come back."""
        agent = self.table.agents.get(uid)
        if agent is not None:
            agent.connected, agent.heard_at = False, now
            self.wake_pool((agent.namespace, agent.pool))

    def end_silent(self, now: datetime) -> list[Lease]:
        """End leases of agents that have been silent for too long; their Jobs look for another agent."""
        ended = list(self.table.end_silent(now, self.serving_since))
        for lease in ended:
            self._wake_task(lease)
        return ended

    # Plans

    def plan_run(self, run: Run, now: datetime) -> RunPlan:
        """What happens to the run next; its states and its place in the queue are already taken over."""
        plan = plan_testrun(self.run_facts(run), now)
        run.states = plan.states
        self._index_queue(run, plan.ready, self._count_running(run))
        return plan

    def run_facts(self, run: Run) -> RunFacts:
        """All that decides about a run."""
        wanted = (
            {run.spec.pool, *(cell.task.pool for cell in run.graph.cells if cell.task.pool)} if run.graph else set()
        )
        return RunFacts(
            namespace=run.namespace, name=run.name, uid=run.uid, generation=run.generation, created=run.created,
            term=self.term, spec=run.spec, graph=run.graph, invalid=run.invalid, states=run.states, jobs=run.jobs,
            leased=self.table.of_run(run.uid, range(len(run.states))),
            pools={name: self._pool_fact((run.namespace, name)) for name in wanted},
            group=self._group_of(run), superseded=run.superseded, started_at=run.started_at, commit=run.commit,
            written=run.status, base_counts=run.base_counts, base_failures=run.base_failures, outputs=run.outputs,
        )  # fmt: skip

    def plan_pool(self, key: PoolKey, template_hash: str, now: datetime) -> PoolPlan:
        """How many agents the pool should have, and what to do about it."""
        pool = self.pools[key]
        queued = [task for tasks in self._ready[key].values() for task in tasks]
        facts = PoolFacts(
            namespace=pool.namespace, name=pool.name, generation=pool.generation, term=self.term, spec=pool.spec,
            template_hash=template_hash, deployments=tuple(self.deployments[key].values()),
            agents=tuple(self._agents_of(key)), queued=len(queued), running=self.running_in(key),
            oldest_queued=min((task.since for task in queued), default=None), written=pool.status,
            quiet_since=pool.quiet_since,
        )  # fmt: skip
        plan = plan_pool_facts(facts, now)
        pool.quiet_since = plan.quiet_since
        return plan

    def assign(self, key: PoolKey, now: datetime) -> tuple[Assignment, ...]:
        """Which queued tasks go to which agents now."""
        pool = self.pools.get(key)
        if pool is None:
            return ()
        free = {
            agent.uid: self.table.free_slots(agent.uid)
            for agent in self.table.agents.values()
            if (agent.namespace, agent.pool) == key
        }
        queued = [task for tasks in self._ready[key].values() for task in tasks]
        return plan_assignments(pool.spec, queued, free, now)

    def start(self, assignment: Assignment, now: datetime) -> Lease:
        """Take an assignment over: the attempt is under way, the agent holds its lease."""
        task = assignment.task
        run = self.runs[task.run_uid]
        agent = self.table.agents[assignment.agent_uid]
        state = run.states[task.index]
        if task.adopt:
            state = replace(state, agent=agent.pod)
        else:
            assert run.graph is not None  # noqa: S101
            key = run.graph.cells[task.index].key
            job = names.child_name(run.name, run.uid, key, state.attempt + 1)
            state = progress.started(state, agent.pod, job, now)
            run.started_at = run.started_at or now
        self._set_state(run, task.index, state)
        attempt = AttemptRef(
            namespace=run.namespace, run=run.name, run_uid=run.uid, index=task.index, attempt=state.attempt
        )
        lease = self.table.grant(attempt, assignment.agent_uid)
        ready = tuple(other for other in run.ready if other.index != task.index)
        self._index_queue(run, ready, self._count_running(run))
        return lease

    def take_back(self, lease: Lease) -> None:
        """The grant came to nothing (the API did not answer): the task waits again, the attempt does not count."""
        self.table.end(lease.task)
        run = self.runs.get(lease.attempt.run_uid)
        if run is None:
            return
        state = run.states[lease.attempt.index]
        if state.running and state.attempt == lease.attempt.attempt and lease.attempt.index not in run.jobs:
            self._set_state(run, lease.attempt.index, progress.not_started(state))
        self.wake_run(run)

    def conclude(self, run: Run, finished: Finished, now: datetime) -> None:
        """An attempt has ended: its verdict, or its next attempt."""
        assert run.graph is not None  # noqa: S101
        index = finished.attempt.index
        cell, state = run.graph.cells[index], run.states[index]
        self.table.end((run.uid, index))
        judgement = judge(cell.task, finished.result, state.stopping)
        self._set_state(run, index, progress.concluded(state, cell, judgement, finished.result, now))
        if finished.result.commit and run.commit is None:
            run.commit = finished.result.commit
        if finished.result.summary is not None and finished.result.summary.outputs:
            run.outputs[index] = dict(finished.result.summary.outputs)
        self.wake_run(run)
        self.wake_pool((run.namespace, cell.task.pool or run.spec.pool))

    def running_in(self, key: PoolKey) -> int:
        """How many tasks of a pool are under way."""
        return sum(self._running[key].values())

    def queue_of(self, key: PoolKey) -> list[QueuedTask]:
        """The waiting tasks of a pool, in no order."""
        return [task for tasks in self._ready[key].values() for task in tasks]

    def agent_states(self, key: PoolKey) -> dict[str, int]:
        """How many agents of a pool are idle, busy, draining, starting or failed."""
        states = dict.fromkeys(("idle", "busy", "draining", "starting", "failed"), 0)
        for agent in self._agents_of(key):
            if agent.failed:
                states["failed"] += 1
            elif agent.session is not None and agent.session.draining:
                states["draining"] += 1
            elif not agent.serving:
                states["starting"] += 1
            else:
                states["busy" if agent.busy else "idle"] += 1
        return states

    def utilization(self, key: PoolKey) -> float:
        """Taken slots of a pool's connected agents, from 0 to 1."""
        slots = [(a.session.slots, a.busy) for a in self._agents_of(key) if a.serving and a.session is not None]
        total = sum(count for count, _ in slots)
        return sum(busy for _, busy in slots) / total if total else 0.0

    def wake_run(self, run: Run, at: datetime | None = None) -> None:
        """Look at the run."""
        self._wake(Key("TestRun", run.namespace, run.name), at)

    def wake_pool(self, key: PoolKey) -> None:
        """Look at the pool's queue and its agents."""
        self._wake(Key("Dispatch", *key), None)
        self._wake(Key("AgentPool", *key), None)

    def supersede(self, uid: str) -> None:
        """A newer run of its group takes over."""
        run = self.runs.get(uid)
        if run is not None and not run.superseded:
            run.superseded = True
            self.wake_run(run)

    # Inside

    def _hear_end(self, uid: str, finished: Finished, now: datetime) -> list[FromController]:
        attempt = finished.attempt
        run = self.runs.get(attempt.run_uid)
        if run is None or run.graph is None or attempt.index >= len(run.states):
            return [Acceptance(lease=finished.lease, outcome="refused", reason="the run is finished or gone")]
        state = run.states[attempt.index]
        if state.attempt != attempt.attempt:
            return [Acceptance(lease=finished.lease, outcome="refused", reason="another attempt has taken its place")]
        if not state.running:  # said twice: accepted as soon as the first is on status
            run.awaiting.append((uid, finished.lease))
            self.wake_run(run)
            return []
        if not is_current(self.table, finished.lease, attempt, uid):
            return [Acceptance(lease=finished.lease, outcome="refused", reason="the lease has ended")]
        run.awaiting.append((uid, finished.lease))
        self.conclude(run, finished, now)
        return []

    def _hear_progress(self, uid: str, message: Progress) -> None:
        run = self.runs.get(message.attempt.run_uid)
        if run is None or not is_current(self.table, message.lease, message.attempt, uid):
            return
        state = run.states[message.attempt.index]
        if not state.running or state.attempt != message.attempt.attempt:
            return
        if message.commit and run.commit is None:
            run.commit = message.commit
        started_at = message.started_at or state.started_at
        changed = replace(state, reason=message.reason, message=message.message[:1000], started_at=started_at)
        self._set_state(run, message.attempt.index, changed)
        self.wake_run(run)

    def _keeps(self, peer: Peer, lease: LeaseId, attempt: AttemptRef) -> bool:
        run = self.runs.get(attempt.run_uid)
        if run is None or attempt.index >= len(run.states):
            return False
        state = run.states[attempt.index]
        if not state.running or state.attempt != attempt.attempt or not self.table.adopt(lease, attempt, peer.uid):
            return False
        if state.agent != peer.pod:
            self._set_state(run, attempt.index, replace(state, agent=peer.pod))
        self.wake_run(run)
        return True

    def _set_state(self, run: Run, index: int, state: progress.TaskState) -> None:
        run.states = (*run.states[:index], state, *run.states[index + 1 :])

    def _count_running(self, run: Run) -> dict[str, int]:
        counts: dict[str, int] = {}
        if run.graph is not None:
            for cell, state in zip(run.graph.cells, run.states, strict=True):
                if state.running:
                    pool = cell.task.pool or run.spec.pool
                    counts[pool] = counts.get(pool, 0) + 1
        return counts

    def _index_queue(self, run: Run, ready: tuple[QueuedTask, ...], running: Mapping[str, int]) -> None:
        """Put the run's waiting and running tasks into the pools' queues, and wake pools for which that is news."""
        before = {task.pool for task in run.ready}
        run.ready = ready
        by_pool: dict[str, list[QueuedTask]] = {}
        for task in ready:
            by_pool.setdefault(task.pool, []).append(task)
        known = before | set(running) | set(by_pool) | {run.spec.pool}
        known |= {cell.task.pool for cell in run.graph.cells if cell.task.pool} if run.graph else set()
        for pool in known:
            key = (run.namespace, pool)
            tasks, count = tuple(by_pool.get(pool, ())), running.get(pool, 0)
            if self._ready[key].get(run.uid, ()) == tasks and self._running[key].get(run.uid, 0) == count:
                continue
            _put(self._ready[key], run.uid, tasks)
            _put(self._running[key], run.uid, count)
            self.wake_pool(key)

    def _pool_fact(self, key: PoolKey) -> PoolFact | None:
        pool = self.pools.get(key)
        if pool is None:
            return None
        waiting = sum(len(tasks) for tasks in self._ready[key].values())
        reason, message = waiting_reason(pool.spec, list(self._agents_of(key)), self.running_in(key), waiting)
        return PoolFact(pool.spec, reason, f"pool {pool.name}: {message}")

    def _agents_of(self, key: PoolKey) -> Iterable[AgentFact]:
        for pod in self.agent_pods.values():
            if (pod.namespace, pod.pool) == key:
                yield AgentFact(
                    pod.pod, pod.uid, pod.template_hash, pod.created, pod.ready, pod.failed, pod.removable,
                    self.table.agents.get(pod.uid), self.table.busy(pod.uid),
                )  # fmt: skip

    def _group_of(self, run: Run) -> tuple[GroupRun, ...]:
        if run.group is None:
            return ()
        others = [self.runs[uid] for uid in self._groups[run.group] if uid != run.uid and uid in self.runs]
        found = [GroupRun(other.name, other.uid, other.created, other.started_at is not None) for other in others]
        return tuple(sorted(found, key=lambda other: (other.created, other.uid)))

    def _wake_group(self, run: Run) -> None:
        for uid in self._groups[run.group] if run.group else ():
            if uid in self.runs:
                self.wake_run(self.runs[uid])

    def _wake_waiting(self, key: PoolKey) -> None:
        """Runs that wait for a pool that came or went."""
        for run in self.runs.values():
            pools = {cell.task.pool or run.spec.pool for cell in run.graph.cells} if run.graph else set()
            if run.namespace == key[0] and key[1] in pools:
                self.wake_run(run)

    def _wake_task(self, lease: Lease) -> None:
        run = self.runs.get(lease.attempt.run_uid)
        if run is not None:
            self.wake_run(run)

    def _end_agent(self, uid: str) -> None:
        for lease in self.table.end_agent(uid):
            self._wake_task(lease)

    def _forget_pod(self, uid: str) -> None:
        pod = self.agent_pods.pop(uid, None)
        if pod is not None:
            self.wake_pool((pod.namespace, pod.pool))


def _put(index: dict[str, Any], uid: str, value: Any) -> None:
    if value:
        index[uid] = value
    else:
        index.pop(uid, None)
