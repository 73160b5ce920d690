"""The leader's working memory: runs, pools, Jobs, agents and leases, rebuilt from the cluster at every start.

No I/O and no waiting here: watches and sessions put in what they hear, the reconcilers take out plans. So the whole
core can be driven by a simulation with its own clock. Every method leaves the desk consistent before it returns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from pydantic import ValidationError

from dawg_orchestrator.controller import gather, hearing, records
from dawg_orchestrator.controller.backlog import Backlog, PoolKey
from dawg_orchestrator.controller.detected import Detected
from dawg_orchestrator.controller.family import Family
from dawg_orchestrator.controller.forecasts import Forecasts
from dawg_orchestrator.controller.gates import Gates
from dawg_orchestrator.controller.jobbook import JobBook
from dawg_orchestrator.controller.library import Library, WorkflowKey
from dawg_orchestrator.controller.occurrences import Occurrences, is_of_agents
from dawg_orchestrator.controller.overrides import Overrides
from dawg_orchestrator.controller.records import Pool, Run, parse_job, parse_pool, parse_run, refresh_run
from dawg_orchestrator.controller.roster import MARKED_REMOVABLE, AgentPod, Roster
from dawg_orchestrator.controller.standing import Standing
from dawg_orchestrator.controller.timetable import Timetable
from dawg_orchestrator.controller.untested import UntestedCommits
from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.controller.workqueue import Key
from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.agentpool import DeploymentFact
from dawg_orchestrator.planning.agentpool import plan_pool as plan_pool_facts
from dawg_orchestrator.planning.dispatch import Assignment, plan_dispatch
from dawg_orchestrator.planning.facts import JobFact
from dawg_orchestrator.planning.graph import pool_of
from dawg_orchestrator.planning.lease import Lease, LeaseTable
from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.plan import PoolPlan, RunPlan
from dawg_orchestrator.planning.restore import with_job
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.planning.verdict import judge
from dawg_orchestrator.planning.workflow import Content
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import AttemptRef, Finished, FromAgent, FromController, Hello
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.steps import step_of

__all__ = ["MARKED_REMOVABLE", "Desk", "Peer", "PoolKey"]

JsonObject = dict[str, Any]
_K = TypeVar("_K")
_REMEMBER_OVER = 20_000  # runs; a watch event is never later than that many others


@dataclass(frozen=True, slots=True)
class Peer:
    """Who an agent is, read from its token and its live pod."""

    uid: str
    pod: str
    namespace: str
    pool: str


class Desk:
    """Everything the leader knows; ``wake`` is called with keys that should be looked at."""

    def __init__(self, term: int, wake: Callable[[Key, datetime | None], None], serving_since: datetime) -> None:
        self.term = term
        self.serving_since = serving_since
        self.runs: dict[str, Run] = {}  # by uid
        self.pools: dict[PoolKey, Pool] = {}
        self.roster = Roster(term, changed=self.wake_pool, lost=self.wake_task)
        self.backlog = Backlog()
        self.timetable = Timetable(
            lambda key: wake(Key("Schedule", *key), None), lambda namespace: wake(Key("Duties", namespace, ""), None)
        )
        self.library = Library(lambda key: wake(Key("Workflow", *key), None), self._workflow_changed)
        detected = Detected()
        self.standing = Standing(
            self.library, self.roster.table.agents, lambda namespace: wake(Key("Duties", namespace, ""), None), detected
        )
        self.untested = UntestedCommits(self.timetable, self.library, self.standing, detected)
        self.standing.serve_also(self.untested)
        self.gates = Gates(term, lambda namespace: wake(Key("Gates", namespace, ""), None), self._wake_uid)
        self.overrides = Overrides(lambda namespace: wake(Key("Gates", namespace, ""), None))
        self.occurrences = Occurrences(self.library.wake_triggered)
        self.family = Family(self._wake_uid)
        self.of_root: Counter[str] = Counter()  # unfinished runs by the uid of the one that they go back to
        self._without_content: dict[WorkflowKey, set[str]] = {}  # uids of runs by their Workflow
        self._unread: dict[str, set[str]] = {}  # by namespace: those of them that are under way, says their status
        self.forecasts = Forecasts(self.timetable, self.pools, self.library)
        self._uid_by_name: dict[PoolKey, str] = {}
        self.jobs = JobBook()
        self.groups: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._claimed: dict[tuple[str, str], set[str]] = defaultdict(set)  # agent's (namespace, pod) → runs' uids
        self.missing_since: dict[PoolKey, datetime] = {}
        self.runs_listed_at: dict[str, str] = {}  # the resourceVersion from which each namespace's runs are watched
        self._over: dict[str, None] = {}  # uids of runs that are finished or gone: a late event brings none back
        self._wake = wake

    @property
    def table(self) -> LeaseTable:
        """Who holds what."""
        return self.roster.table

    @property
    def agent_pods(self) -> Mapping[str, AgentPod]:
        """The agents' pods by uid."""
        return self.roster.pods

    @property
    def deployments(self) -> Mapping[PoolKey, dict[str, DeploymentFact]]:
        """The Deployments of each pool's agents by name."""
        return self.roster.deployments

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
        former = self.run_named(*key)
        if former is not None and former.uid != uid:
            if version_of(obj) < former.version:
                return  # a late word of a run that was deleted before this one was created
            self.drop_run(former.uid)
        if run is None:
            self.wake_run(self._take_in(obj))
        elif version_of(obj) > run.version:
            before = run.status
            refresh_run(run, obj)
            if (run.status.get("term") or 0) < self.term and run.status != before:
                self._heed_former_leader(run, before)
            self.wake_run(run)

    def _take_in(self, obj: JsonObject) -> Run:
        uid = obj["metadata"]["uid"]
        run = parse_run(obj, *self.jobs.of_run(uid), self.serving_since)
        self.runs[uid] = run
        self._uid_by_name[run.namespace, run.name] = uid
        self.of_root[run.root] += 1
        if run.parent is not None and run.of_step:
            self.family.appeared(run.parent, uid)
        if run.workflow is not None and run.invalid is None:
            self._without_content.setdefault((run.namespace, run.workflow), set()).add(uid)
            if "startTime" in (obj.get("status") or {}):
                self._unread.setdefault(run.namespace, set()).add(uid)
        self._take_in_content(run)
        if run.spec.gate is not None:  # before anybody looks at it: an older one may decide no more
            self.gates.see(run)
        return run

    def _take_in_content(self, run: Run) -> None:
        if run.group is not None:
            self.groups[run.group].add(run.uid)
            self._wake_group(run)
        for state in run.states:
            if state.running and state.agent:
                self._claimed[run.namespace, state.agent].add(run.uid)

    def give_content(self, run: Run, content: Content, revision: str, now: datetime) -> None:
        """The run of a Workflow learns what it carries out."""
        records.give_content(run, content, revision, now)
        self._take_in_content(run)
        self._is_read(run)

    def refuse_content(self, run: Run, why: tuple[Reason, str]) -> None:
        """What the run of a Workflow asks for cannot be carried out."""
        run.invalid = why
        self._is_read(run)

    def see_finished(self, obj: JsonObject, now: datetime) -> None:
        """A run that has its verdict, as it is found later."""
        self.occurrences.see_finished(obj, now)
        self.gates.see_finished(obj, now)
        if (obj.get("status") or {}).get("mergeBlocked"):
            self.overrides.see(obj)

    def unread_beside(self, run: Run) -> tuple[str, ...]:
        """Runs under way in its namespace of which nobody knows yet to which concurrency group they belong."""
        if run.group is None:
            return ()
        return tuple(sorted(self.runs[uid].name for uid in self._unread.get(run.namespace, ()) if uid != run.uid))

    def _is_read(self, run: Run) -> None:
        """What the run of a Workflow carries out is known, or will never be."""
        key = (run.namespace, run.workflow or "")
        _discard(self._without_content, key, run.uid)
        if _discard(self._unread, run.namespace, run.uid) and run.namespace not in self._unread:
            for other in self.runs.values():
                if other.namespace == run.namespace and other.group is not None and other.started_at is None:
                    self.wake_run(other)

    def _heed_former_leader(self, run: Run, before: JsonObject) -> None:
        for index in records.heed_former_leader(run, before, self.serving_since):
            lease, state = self.table.holder((run.uid, index)), run.states[index]
            agent = self.table.agents.get(lease.agent) if lease is not None else None
            if agent is not None and not (state.running and state.agent == agent.pod):
                self.table.end((run.uid, index))

    def drop_run(self, uid: str) -> None:
        """The run has its verdict on status, or is gone from the cluster; its leases end, it never comes back."""
        self._over[uid] = None
        if len(self._over) > _REMEMBER_OVER:
            del self._over[next(iter(self._over))]
        run = self.runs.pop(uid, None)
        self.jobs.forget(uid)
        if run is None:
            return
        if run.schedule is not None:
            self.timetable.run_ended(run.schedule)
        self._leave_family(run)
        if self._uid_by_name.get((run.namespace, run.name)) == uid:
            del self._uid_by_name[run.namespace, run.name]
        if run.group is not None:
            self.groups[run.group].discard(uid)
            self._wake_group(run)
        for index in range(len(run.states)):
            self.table.end((uid, index))
        self._index_queue(run, (), {})

    def _leave_family(self, run: Run) -> None:
        self.family.forget(run.uid)
        if run.parent is not None:
            self.family.ended(run.parent, run.uid)
        self.of_root[run.root] -= 1
        if not self.of_root[run.root]:
            del self.of_root[run.root]
        if run.workflow is not None:
            self._is_read(run)

    def run_named(self, namespace: str, name: str) -> Run | None:
        """The unfinished run of that name."""
        uid = self._uid_by_name.get((namespace, name))
        return self.runs.get(uid) if uid else None

    def see_job(self, obj: JsonObject) -> None:
        """A Job of a task as listed, watched or just created."""
        parsed = parse_job(obj)
        if parsed is None or parsed[0] in self._over:
            return
        run_uid, job = parsed
        run = self.runs.get(run_uid)
        if self.jobs.see(run_uid, job) and run is not None:
            self._take_up(run, job)
            self.wake_run(run)

    def _take_up(self, run: Run, job: JobFact) -> None:
        """A Job whose creation was given up, but did happen: its attempt is under way after all."""
        if job.deleting or job.index >= len(run.states):
            return
        state = run.states[job.index]
        if not state.done and not state.running and job.attempt == state.attempt + 1:
            self.set_state(run, job.index, with_job(state, (job.attempt, job.name)))

    def drop_job(self, obj: JsonObject) -> None:
        """A Job is gone."""
        parsed = parse_job(obj)
        if parsed is not None:
            self._forget_job(parsed[0], parsed[1].uid)

    def drop_job_of(self, job_uid: str) -> None:
        """A Job of this uid is gone, as a list has shown."""
        run_uid = self.jobs.run_of(job_uid)
        if run_uid is not None:
            self._forget_job(run_uid, job_uid)

    def _forget_job(self, run_uid: str, job_uid: str) -> None:
        known, run = self.jobs.drop(run_uid, job_uid), self.runs.get(run_uid)
        if run is None:
            self.jobs.forget(run_uid, only_if_empty=True)
        elif known:
            self.wake_run(run)

    def see_pool(self, obj: JsonObject) -> None:
        """An AgentPool as listed or watched; one whose spec cannot be read counts as missing."""
        try:
            parsed = parse_pool(obj)
        except ValidationError:
            self.drop_pool(obj["metadata"]["namespace"], obj["metadata"]["name"])
            return
        key = (parsed.namespace, parsed.name)
        known = self.pools.get(key)
        if known is not None and known.uid == parsed.uid:
            if version_of(obj) <= known.version:
                return
            respecified = known.spec != parsed.spec
            known.version, known.generation = parsed.version, parsed.generation
            known.status = parsed.status
            if respecified:
                known.spec, known.asked_at = parsed.spec, None
        else:
            respecified = True
            self.pools[key] = parsed
            self.missing_since.pop(key, None)
        if respecified:
            self._wake_waiting(key)
            self.standing.changed(key[0])
        self.wake_pool(key)

    def drop_pool(self, namespace: str, name: str) -> None:
        """An AgentPool is gone; its Deployments go by ownership."""
        self.pools.pop((namespace, name), None)
        self._wake_waiting((namespace, name))
        self.standing.changed(namespace)

    def pool_names(self, namespace: str) -> set[str]:
        """All pools of a namespace."""
        return {name for where, name in self.pools if where == namespace}

    def deployment_names(self, namespace: str) -> set[str]:
        """All Deployments of a namespace."""
        return self.roster.deployment_names(namespace) | self.occurrences.deployments_in(namespace)

    def drop_deployment_named(self, namespace: str, name: str) -> None:
        """A Deployment is gone, as a list has shown."""
        self.roster.drop_deployment_named(namespace, name)
        self.occurrences.drop_deployment(namespace, name)

    def see_deployment(self, obj: JsonObject) -> None:
        """A Deployment, of agents or anybody's."""
        if is_of_agents(obj["metadata"]):
            self.roster.see_deployment(obj)
        else:
            self.occurrences.see_deployment(obj)

    def drop_deployment(self, obj: JsonObject) -> None:
        """A Deployment is gone."""
        if is_of_agents(obj["metadata"]):
            self.roster.drop_deployment(obj)
        else:
            self.occurrences.drop_deployment(obj["metadata"]["namespace"], obj["metadata"]["name"])

    def see_pod(self, obj: JsonObject) -> None:
        """An agent's pod."""
        self.roster.see_pod(obj)

    def drop_pod(self, obj: JsonObject) -> None:
        """An agent's pod is gone: so are its leases."""
        uid = obj["metadata"]["uid"]
        pod = self.roster.pods.get(uid)
        self.roster.drop_pod(obj)
        if pod is not None:
            self.wake_claimed(Peer(uid, pod.pod, pod.namespace, pod.pool))

    # What agents say

    def hear_hello(self, peer: Peer, hello: Hello, now: datetime) -> list[FromController]:
        """An agent opens its session."""
        return hearing.hear_hello(self, peer, hello, now)

    def hear(self, uid: str, message: FromAgent, now: datetime) -> list[FromController]:
        """Any later word of an agent; answers to send back at once."""
        return hearing.hear(self, uid, message, now)

    def lose_session(self, uid: str, now: datetime) -> None:
        """The connection is gone; the leases stay for a while, the agent may come back."""
        agent = self.table.agents.get(uid)
        if agent is not None:
            agent.connected = False
            self.standing.session_changed(agent)
            self.wake_pool((agent.namespace, agent.pool))

    def end_silent(self, now: datetime) -> list[Lease]:
        """End leases of agents that have been silent for too long; their Jobs look for another agent."""
        ended = list(self.table.end_silent(now, self.serving_since))
        for lease in ended:
            self.wake_task(lease)
        for lease in self.table.unreachable(now, self.serving_since):
            run = self.runs[lease.attempt.run_uid]
            if run.states[lease.attempt.index].reason is not Reason.AGENT_UNREACHABLE:
                self.wake_run(run)
        return ended

    # Plans

    def plan_run(self, run: Run, now: datetime) -> RunPlan:
        """What happens to the run next; its states and its place in the queue are already taken over."""
        facts = gather.run_facts(self, run, now)
        if run.spec.gate is not None:
            self.gates.see(run)
            facts = replace(facts, gate=self.gates.stand_of(run))
        plan = plan_testrun(facts, now)
        run.states = plan.states
        run.outputs |= plan.outputs
        run.risk = plan.report.risk
        if plan.begun:
            run.started_at = run.started_at or now
        for index in facts.leased:
            if not run.states[index].running:  # settled without its report
                self.table.end((run.uid, index))
        self._index_queue(run, plan.ready, self._count_running(run))
        return plan

    def plan_pool(self, key: PoolKey, template_hash: str, now: datetime) -> PoolPlan:
        """How many agents the pool should have, and what to do about it."""
        plan = plan_pool_facts(gather.pool_facts(self, key, template_hash), now)
        self.pools[key].quiet_since = plan.quiet_since
        return plan

    def assign(self, key: PoolKey, now: datetime) -> tuple[Assignment, ...]:
        """Which queued tasks go to which agents now; ``start`` each before anything else happens."""
        pool = self.pools.get(key)
        if pool is None:
            return ()
        free = self.roster.free_slots(key)
        room = sum(free.values())
        # As many of each lane as there is room: those behind them cannot be first.
        queued = [
            task for lane in self.backlog.lanes(key) for task in islice(filter(self._is_startable, lane), room)
        ] if room else []  # fmt: skip
        assignments = plan_dispatch(pool.spec, queued, free, now)
        entering: dict[tuple[str, str], set[str]] = defaultdict(set)
        return tuple(given for given in assignments if self._may_enter(self.runs[given.task.run_uid], entering))

    def start(self, assignment: Assignment, now: datetime) -> Lease:
        """Take an assignment over: the attempt is under way, the agent holds its lease."""
        task = assignment.task
        run = self.runs[task.run_uid]
        assert run.graph is not None  # noqa: S101
        agent = self.table.agents[assignment.agent_uid]
        cell, state = run.graph.cells[task.index], run.states[task.index]
        if task.adopt:
            state = replace(state, agent=agent.pod)
        else:
            job = names.child_name(run.name, run.uid, cell.key, state.attempt + 1)
            in_slot = self.pools[run.namespace, task.pool].spec.executor != "Job"
            state = progress.started(state, agent.pod, None if in_slot else job, now)
            run.started_at = run.started_at or now
            run.ended_by.pop(task.index, None)
        self.set_state(run, task.index, state)
        attempt = AttemptRef(
            namespace=run.namespace, run=run.name, run_uid=run.uid, index=task.index, attempt=state.attempt
        )
        lease = self.table.grant(attempt, assignment.agent_uid, exclusive=cell.task.exclusive)
        ready = tuple(other for other in run.ready if other.index != task.index)
        self._index_queue(run, ready, self._count_running(run))
        return lease

    def take_back(self, lease: Lease) -> None:
        """The grant came to nothing (the API did not answer): the task waits again, the attempt does not count."""
        holder = self.table.holder(lease.task)
        if holder is not None and holder.id == lease.id:
            self.table.end(lease.task)
        run = self.runs.get(lease.attempt.run_uid)
        if run is None:
            return
        index = lease.attempt.index
        state, job = run.states[index], run.jobs.get(index)
        has_job = job is not None and job.attempt == state.attempt
        if state.running and state.attempt == lease.attempt.attempt and not has_job and holder is not None:
            self.set_state(run, index, progress.not_started(state))
        self.wake_run(run)

    def conclude(self, run: Run, finished: Finished, now: datetime) -> None:
        """An attempt has ended: its verdict, or its next attempt. One that is over already stays as it is."""
        assert run.graph is not None  # noqa: S101
        index = finished.attempt.index
        cell, state = run.graph.cells[index], run.states[index]
        self.table.end((run.uid, index))
        if not state.running or state.attempt != finished.attempt.attempt:
            return
        judgement = judge(cell.task, finished.result, state.stopping)
        state = progress.concluded(state, cell, judgement, finished.result, now)
        self.set_state(run, index, state)
        hearing.take_commit(run, finished.result.commit)
        if state.done and finished.result.summary is not None:
            said = finished.result.summary.outputs
            step = step_of(cell.task)
            wanted = step.outputs if step is not None else cell.task.outputs
            run.outputs[index] = {name: said[name] for name in wanted if name in said}
        self.wake_run(run)
        self.wake_pool((run.namespace, pool_of(run.spec, cell.task)))

    def runs_started(self, run: Run, index: int, created: list[JsonObject]) -> None:
        """All runs that a step asked for are there. Status keeps their names: one that is deleted must be missed."""
        self.family.started(run.uid, index, created)
        for obj in created:
            self.see_run(obj)
        run.outputs[index] = {"runs": ",".join(obj["metadata"]["name"] for obj in created)}
        state = run.states[index]
        if state.running and state.reason is Reason.STARTING:
            self.set_state(run, index, replace(state, reason=Reason.WAITING_FOR_RUNS))
        self.wake_run(run)

    def runs_refused(self, run: Run, index: int, message: str, now: datetime) -> None:
        """A run that a step asked for can never be; those that are there already are ended first."""
        state = run.states[index]
        if state.running and state.stopping is None:
            self.set_state(run, index, progress.stop(replace(state, message=message), Reason.RUN_REFUSED, now))
        self.family.not_listed(run.uid)
        self.wake_run(run)

    # What others ask

    def running_in(self, key: PoolKey) -> int:
        """How many tasks of a pool are under way."""
        return self.backlog.running(key)

    def queue_of(self, key: PoolKey) -> list[QueuedTask]:
        """The waiting tasks of a pool, in no order."""
        return self.backlog.queued(key)

    def agent_states(self, key: PoolKey) -> dict[str, int]:
        """How many agents of a pool are idle, busy, draining, starting or failed."""
        return self.roster.states(key)

    def utilization(self, key: PoolKey) -> float:
        """Taken slots of a pool's connected agents, from 0 to 1."""
        return self.roster.utilization(key)

    def set_state(self, run: Run, index: int, state: progress.TaskState) -> None:
        """One task of the run has moved on."""
        run.states = (*run.states[:index], state, *run.states[index + 1 :])

    def supersede(self, uid: str) -> None:
        """A newer run of its group takes over."""
        run = self.runs.get(uid)
        if run is not None and not run.superseded:
            run.superseded = True
            self.wake_run(run)

    def wake_run(self, run: Run, at: datetime | None = None) -> None:
        """Look at the run."""
        self._wake(Key("TestRun", run.namespace, run.name), at)

    def wake_task(self, lease: Lease) -> None:
        """Look at the run whose task was held."""
        run = self.runs.get(lease.attempt.run_uid)
        if run is not None:
            self.wake_run(run)

    def wake_pool(self, key: PoolKey) -> None:
        """Look at the pool's queue and its agents."""
        self._wake(Key("Dispatch", *key), None)
        self._wake(Key("AgentPool", *key), None)

    def wake_claimed(self, peer: Peer) -> None:
        """The agent has spoken or is gone: runs need not wait for its word any more."""
        for uid in self._claimed.pop((peer.namespace, peer.pod), ()):
            if uid in self.runs:
                self.wake_run(self.runs[uid])

    # Inside

    def _is_startable(self, task: QueuedTask) -> bool:
        """Whether the task still wants what it was queued for: agents may have spoken since."""
        run = self.runs.get(task.run_uid)
        if run is None or self.table.holder((task.run_uid, task.index)) is not None:
            return False
        state = run.states[task.index]
        if task.adopt:
            return state.running and task.index in run.jobs
        if state.running or state.done or run.graph is None:
            return False
        return run.graph.cells[task.index].task.uses is not None or not self._resolves_meanwhile(run)

    @staticmethod
    def _resolves_meanwhile(run: Run) -> bool:
        """Whether a task of the run, perhaps in another pool, is finding out which commit all of them test."""
        has_source = run.spec.source is not None and run.spec.source.git is not None
        if not has_source or run.commit is not None or run.graph is None:
            return False
        pairs = zip(run.graph.cells, run.states, strict=True)
        return any(state.running and cell.task.uses is None for cell, state in pairs)

    def _may_enter(self, run: Run, entering: dict[tuple[str, str], set[str]]) -> bool:
        """The last word on a concurrency group: runs are planned one by one, and each may think that it is next."""
        concurrency = run.spec.concurrency
        if concurrency is None or run.group is None or run.started_at is not None:
            return True
        if self.unread_beside(run):
            return False
        inside = {uid for uid in self.groups[run.group] if uid in self.runs and self.runs[uid].started_at is not None}
        inside |= entering[run.group]
        if run.uid not in inside and len(inside) >= concurrency.max:
            self.wake_run(run)
            return False
        entering[run.group].add(run.uid)
        return True

    def _count_running(self, run: Run) -> dict[str, int]:
        counts: dict[str, int] = {}
        if run.graph is not None:
            for cell, state in zip(run.graph.cells, run.states, strict=True):
                if state.running and state.agent is not None:
                    pool = pool_of(run.spec, cell.task)
                    counts[pool] = counts.get(pool, 0) + 1
        return counts

    def _index_queue(self, run: Run, ready: tuple[QueuedTask, ...], running: Mapping[str, int]) -> None:
        """Put the run's waiting and running tasks into the pools' queues, and wake pools for which that is news."""
        run.ready = ready
        by_pool: dict[str, list[QueuedTask]] = {}
        for task in ready:
            by_pool.setdefault(task.pool, []).append(task)
        for pool in records.pools_of(run):
            key = (run.namespace, pool)
            if self.backlog.put(key, run.uid, tuple(by_pool.get(pool, ())), running.get(pool, 0)):
                self.wake_pool(key)

    def _wake_group(self, run: Run) -> None:
        for uid in self.groups[run.group] if run.group else ():
            if uid in self.runs:
                self.wake_run(self.runs[uid])

    def _wake_uid(self, uid: str) -> None:
        if uid in self.runs:
            self.wake_run(self.runs[uid])

    def _workflow_changed(self, workflow: WorkflowKey) -> None:
        """Its content is new: runs may have waited for it, and agents may have to look elsewhere."""
        self.standing.changed(workflow[0])
        for uid in sorted(self._without_content.get(workflow, ())):
            self._wake_uid(uid)

    def _wake_waiting(self, key: PoolKey) -> None:
        """Runs that wait for a pool that came, went or changed."""
        for run in self._runs_in(key):
            self.wake_run(run)

    def _runs_in(self, key: PoolKey) -> Iterable[Run]:
        return [run for run in self.runs.values() if run.namespace == key[0] and key[1] in records.pools_of(run)]


def _discard(sets: dict[_K, set[str]], key: _K, uid: str) -> bool:
    """Take a uid out of the set of a key, and the key with the last one; whether it was there."""
    known = sets.get(key, set())
    if uid not in known:
        return False
    known.discard(uid)
    if not known:
        del sets[key]
    return True
