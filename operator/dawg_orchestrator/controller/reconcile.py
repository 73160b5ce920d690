"""The one loop: take a key, plan, carry out, report, say when to look again. Errors are caught here only."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from dawg_orchestrator.cluster import carry_out, started
from dawg_orchestrator.cluster.agents import agents_template
from dawg_orchestrator.cluster.client import AGENTPOOLS, JOBS, Cluster, JsonObject
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.cluster.scheduled import RunRefused, stop_run
from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.contents import Contents
from dawg_orchestrator.controller.desk import MARKED_REMOVABLE, Desk, PoolKey
from dawg_orchestrator.controller.duties import DutyRoster
from dawg_orchestrator.controller.elector import LeadershipLost
from dawg_orchestrator.controller.grants import Granting
from dawg_orchestrator.controller.librarian import Librarian
from dawg_orchestrator.controller.overrides import Overruler
from dawg_orchestrator.controller.publisher import Publisher
from dawg_orchestrator.controller.records import Pool, Run
from dawg_orchestrator.controller.scheduling import LetGo, Scheduling
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.status import Reporter
from dawg_orchestrator.controller.workqueue import IN_TURN, Key, WorkQueue
from dawg_orchestrator.errors import ClusterError, Conflict, NotFound, Unavailable
from dawg_orchestrator.planning.changes import differing
from dawg_orchestrator.planning.plan import (
    CancelRun,
    DeleteJob,
    DrainAgent,
    PoolAction,
    RunPlan,
    StartRuns,
    StopAttempt,
    StopRuns,
)
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, BuiltinSpec
from dawg_orchestrator.resources.protocol import Cancel, Drain
from dawg_orchestrator.resources.reasons import Reason

log = structlog.get_logger()

# A look costs as much as the run has tasks, so at a run of many one looks less often; results gather meanwhile.
_TASK_PACE = timedelta(microseconds=50)
_FEW_TASKS = 50  # at a run of so few one may always look
_POOL_EVERY = timedelta(seconds=0.3)  # a pool's size follows its queue; more often would only cost
_POOL_STATUS_EVERY = timedelta(seconds=1)
_ASK_AGAIN = timedelta(seconds=10)  # whoever refused a pool's agents
_RECORD_TRIES = 5
_FIRST_BACKOFF = 0.5
_LAST_BACKOFF = 30.0


class Reconciler:
    """Brings one object at a time to where its plan says it should be."""

    def __init__(
        self,
        cluster: Cluster,
        desk: Desk,
        sessions: Sessions,
        queue: WorkQueue,
        around: Surroundings,
        reporter: Reporter,
        clock: Callable[[], datetime],
        let_go: LetGo,
    ) -> None:
        self._cluster, self._desk, self._sessions, self._queue = cluster, desk, sessions, queue
        self._around, self._reporter, self._clock = around, reporter, clock
        self._granting = Granting(cluster, desk, sessions, queue, around, self._record_start, clock)
        self._scheduling = Scheduling(
            cluster, desk.timetable, desk.forecasts, desk.untested, desk.term, queue, clock, let_go
        )  # fmt: skip
        self._contents = Contents(cluster, desk, clock)
        self._librarian = Librarian(cluster, desk, clock)
        self._duties = DutyRoster(cluster, desk, sessions, clock)
        self._overruler = Overruler(cluster, desk, clock)
        self._publisher = Publisher(cluster, desk, sessions, around.run_link, clock)
        self._failures: dict[Key, int] = {}
        self._templates: dict[PoolKey, tuple[AgentPoolSpec, JsonObject, str]] = {}

    async def __call__(self, key: Key) -> None:
        """Look at one key. Whatever goes wrong with it is logged, counted and tried again; others are not held up."""
        started = time.perf_counter()
        try:
            await self._look(key)
            self._failures.pop(key, None)
        except LeadershipLost:
            raise
        except ClusterError as error:
            self._back_off(key, error)
            log.warning(
                "reconcile failed", kind=key.kind, namespace=key.namespace, name=key.name, error=str(error)[:500]
            )
        except Exception as error:
            self._back_off(key, error)
            log.exception("reconcile broke", kind=key.kind, namespace=key.namespace, name=key.name)
        metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - started)

    async def _look(self, key: Key) -> None:
        if key.kind == "Dispatch":
            await self._granting.dispatch((key.namespace, key.name))
        elif key.kind == "AgentPool":
            await self._look_at_pool((key.namespace, key.name))
        elif key.kind == "Schedule":
            await self._scheduling.look((key.namespace, key.name))
        elif key.kind == "Workflow":
            self._look_again(key, await self._librarian.look((key.namespace, key.name)))
        elif key.kind == "Duties":
            self._look_again(key, await self._duties.look(key.namespace))
        elif key.kind == "Gates":
            self._look_again(key, await self._publisher.look(key.namespace))
            await self._overruler.look(key.namespace)  # one that cannot be ruled on holds nothing else up
        else:
            run = self._desk.run_named(key.namespace, key.name)
            if run is not None:
                await self._look_at_run(run, in_turn=key.kind == IN_TURN)

    def _look_again(self, key: Key, at: datetime | None) -> None:
        if at is not None:
            self._queue.add(key, at)

    def _back_off(self, key: Key, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(_LAST_BACKOFF, _FIRST_BACKOFF * 2 ** min(failures - 1, 10))
        if isinstance(error, Unavailable) and error.retry_after:
            wait = max(wait, error.retry_after)
        metrics.RECONCILE_ERRORS.labels(key.kind, type(error).__name__).inc()
        self._queue.add(key, self._clock() + timedelta(seconds=wait))

    # Runs

    async def _look_at_run(self, run: Run, *, in_turn: bool = False) -> None:
        now = self._clock()
        run.seen_at = run.seen_at or now
        if run.looked_at is not None and now < (due := run.looked_at + _pace(run)):
            # Whose turn it was keeps it: a usual look would only ask for another turn.
            self._queue.add(Key(IN_TURN if in_turn else "TestRun", run.namespace, run.name), due)
            return
        _, failed = await self._advance(run, at_once=in_turn)
        if failed is not None:
            raise failed

    async def _advance(self, run: Run, *, at_once: bool = False) -> tuple[bool, ClusterError | None]:
        """Plan, carry out, report; returns whether status says now what was planned, and what is to be tried again.

        One at a time for a run: the status of an older plan must not be written after that of a newer one.
        """
        async with run.advancing:
            if self._desk.runs.get(run.uid) is not run:
                return False, None
            failed = await self._prepare(run)
            run.looked_at = self._clock()
            plan, contained = self._desk.plan_run(run, run.looked_at), tuple(run.awaiting)
            failed = await self._carry_out(run, plan) or failed
            if plan.finished and run.spec.gate is not None:
                await self._supersede_older(run)
            again = await self._reporter.report(run, plan, contained, at_once=at_once or plan.record_first)
            if again is None:
                # Only now: a Job is the proof of its attempt until status has it.
                await self._clear_away(run, plan)
        if again is not None and run.started_at is None and not plan.finished:
            self._queue.add(Key(IN_TURN, run.namespace, run.name), again)
        elif again is not None:
            self._desk.wake_run(run, again)
        if plan.check_again_at is not None and not plan.finished:
            self._desk.wake_run(run, plan.check_again_at)
        if again is None and plan.record_first and self._desk.runs.get(run.uid) is run:
            self._desk.wake_run(run)
        return again is None, failed

    async def _supersede_older(self, run: Run) -> None:
        """Before a gated run has its verdict, older ones know on their status that they open no gate any more."""
        await self._publisher.supersede_older(run)
        for uid in self._desk.gates.older_under_way(run):
            older = self._desk.runs.get(uid)
            if older is not None:
                await self._record_start(older)
                self._desk.gates.see(older)

    async def _prepare(self, run: Run) -> ClusterError | None:
        """What a plan needs and the desk does not have: a Workflow's content, and what became of runs of steps.

        Without the latter a plan is still worth carrying out; returns why they could not be listed.
        """
        if run.graph is None and run.invalid is None:
            await self._contents.give(run)
        family = self._desk.family
        if run.graph is None or not run.graph.has_steps or family.is_listed(run.uid):
            return None
        under_way = (run.states[index] for index in run.graph.steps)
        if not family.has_unfinished(run.uid) and not any(s.running and s.agent is None for s in under_way):
            return None
        family.listing(run.uid)
        try:
            found = await started.runs_of(self._cluster, run.namespace, run.uid)
        except ClusterError as error:
            family.not_listed(run.uid)
            return error
        if self._desk.runs.get(run.uid) is run:
            family.take_list(run.uid, found)
        return None

    async def _carry_out(self, run: Run, plan: RunPlan) -> ClusterError | None:
        """Returns what went wrong with runs of steps: the run's other tasks must not wait until that succeeds."""
        failed: ClusterError | None = None
        for action in plan.actions:
            match action:
                case StopAttempt(index, reason):
                    await self._stop(run, index, reason)
                case CancelRun(_, uid):
                    self._desk.supersede(uid)
                case StartRuns():
                    failed = await self._start_runs(run, action) or failed
                case StopRuns(index):
                    failed = await self._stop_runs(run, index) or failed
                case DeleteJob():
                    continue  # after the report
        return failed

    async def _start_runs(self, run: Run, action: StartRuns) -> ClusterError | None:
        parent = started.Parent(run.namespace, run.name, run.uid, run.root, run.depth, run.spec, run.commit)
        try:
            made = [await started.start_run(self._cluster, parent, action.index, wanted) for wanted in action.runs]
        except RunRefused as error:
            self._desk.runs_refused(run, action.index, str(error), self._clock())
        except ClusterError as error:
            self._desk.family.not_listed(run.uid)  # some of them may be there
            return error
        else:
            if self._desk.runs.get(run.uid) is run:
                self._desk.runs_started(run, action.index, made)
        return None

    async def _stop_runs(self, run: Run, index: int) -> ClusterError | None:
        for child in self._desk.family.of(run.uid, [index]).get(index, ()):
            known = self._desk.runs.get(child.uid)
            if child.verdict is None and not child.gone and not (known is not None and known.spec.cancelled):
                try:
                    await stop_run(self._cluster, run.namespace, child.name)
                except ClusterError as error:
                    return error
        return None

    async def _clear_away(self, run: Run, plan: RunPlan) -> None:
        for action in plan.actions:
            if isinstance(action, DeleteJob):
                await carry_out.delete_job(self._cluster, run.namespace, action.name, action.uid)

    async def _stop(self, run: Run, index: int, reason: Reason) -> None:
        lease = self._desk.table.holder((run.uid, index))
        if lease is not None:
            await self._sessions.send(lease.agent, Cancel(lease=lease.id, reason=reason))
        job = run.jobs.get(index)
        if job is not None:
            # In the foreground: the Job stands until its pod is gone, so its absence is proof of the end.
            await self._cluster.delete(JOBS, run.namespace, job.name, uid=job.uid, propagation="Foreground")

    async def _record_start(self, run: Run) -> None:
        """Return once status says what has been started; Conflict when others write it, or the run is gone."""
        for _ in range(_RECORD_TRIES):
            recorded, failed = await self._advance(run, at_once=True)
            if failed is not None:
                self._desk.wake_run(run)  # that look tries it again, and backs off
            if recorded and self._desk.runs.get(run.uid) is run:
                return
        raise Conflict(f"what starts in {run.namespace}/{run.name} could not be recorded", 409)

    async def forget_run(self, uid: str) -> None:
        """The run was deleted: its agents stop, its Jobs go by ownership."""
        run = self._desk.runs.get(uid)
        held = [self._desk.table.holder((uid, index)) for index in range(len(run.states))] if run else []
        self._desk.gates.missed(uid)
        self._desk.drop_run(uid)
        for lease in held:
            if lease is not None:
                await self._sessions.send(lease.agent, Cancel(lease=lease.id, reason=Reason.CANCELLED, revoked=True))

    # Pools

    async def _look_at_pool(self, key: PoolKey) -> None:
        pool = self._desk.pools.get(key)
        if pool is None:
            return
        now = self._clock()
        self._queue.rest(Key("AgentPool", *key), now + _POOL_EVERY)
        await self._ask_owners(pool, now)
        if self._desk.pools.get(key) is not pool:
            return
        template, template_hash = self._template(pool)
        plan = self._desk.plan_pool(key, template_hash, now)
        try:
            for action in plan.actions:
                await self._change_agents(pool, template, action)
        except carry_out.Refused as error:
            if self._desk.pools.get(key) is not pool:
                return
            pool.refused, pool.asked_at = (error.reason, str(error)), now
            plan = self._desk.plan_pool(key, template_hash, now)
        await self._report_pool(pool, plan.status, scaled=plan.scaled)
        if plan.check_again_at is not None:
            self._queue.add(Key("AgentPool", *key), plan.check_again_at)

    def _template(self, pool: Pool) -> tuple[JsonObject, str]:
        """What the pool's agents are made of, and its hash; made once for each spec."""
        key = (pool.namespace, pool.name)
        spec, template, template_hash = self._templates.get(key, (None, {}, ""))
        if spec is not pool.spec:
            template = agents_template(pool.name, pool.spec, self._around)
            template_hash = names.short_hash(str(sorted(template.items())))
            self._templates[key] = (pool.spec, template, template_hash)
        return template, template_hash

    async def _change_agents(self, pool: Pool, template: JsonObject, action: PoolAction) -> None:
        if isinstance(action, DrainAgent):
            await self._drain(action)
            return
        about = (pool.name, pool.uid, pool.spec.executor)
        changed = await carry_out.change_agents(
            self._cluster, pool.namespace, about, template, action, MARKED_REMOVABLE
        )
        if changed is not None:
            self._desk.see_deployment(changed)

    async def _ask_owners(self, pool: Pool, now: datetime) -> None:
        """Whether the Secrets that tests or steps would see are for them; who refused is asked again later."""
        for_tests = {secret.name for secret in pool.spec.warm.secrets} if pool.spec.warm is not None else set()
        builtin = pool.spec.builtin or BuiltinSpec()
        for_steps = {secret.name for secret in builtin.secrets} | {secret.name for secret in builtin.forge_secrets}
        if pool.asked_at is not None and now - pool.asked_at < _ASK_AGAIN:
            return
        try:
            await carry_out.check_test_secrets(self._cluster, pool.namespace, for_tests)
            await carry_out.check_step_secrets(self._cluster, pool.namespace, for_steps)
            pool.refused = None
        except carry_out.Refused as error:
            pool.refused = (error.reason, str(error))
        pool.asked_at = now

    async def _drain(self, action: DrainAgent) -> None:
        agent = self._desk.table.agents.get(action.pod_uid)
        if agent is not None and await self._sessions.send(action.pod_uid, Drain(undo=action.undo)):
            agent.draining, agent.drained = not action.undo, False
            self._desk.standing.changed(agent.namespace)
            self._desk.wake_pool((agent.namespace, agent.pool))

    async def _report_pool(self, pool: Pool, status: dict[str, object], *, scaled: tuple[Reason, str] | None) -> None:
        now = self._clock()
        about = (pool.namespace, pool.name, pool.uid)
        if scaled is not None:
            direction = "up" if scaled[0] is Reason.SCALED_UP else "down"
            metrics.SCALE_EVENTS.labels(pool.namespace, pool.name, direction).inc()
            log.info("pool scaled", namespace=pool.namespace, pool=pool.name, reason=scaled[0].value, change=scaled[1])
            await carry_out.announce(self._cluster, AGENTPOOLS, about, scaled[0], scaled[1], warning=False, now=now)
        if not differing(pool.status, status) - {"oldestQueuedSeconds"}:
            return
        if pool.written_at is not None and now - pool.written_at < _POOL_STATUS_EVERY and scaled is None:
            self._queue.add(Key("AgentPool", pool.namespace, pool.name), pool.written_at + _POOL_STATUS_EVERY)
            return
        try:
            written = await carry_out.write_status(
                self._cluster, AGENTPOOLS, pool.namespace, pool.name, pool.version, status
            )
        except Conflict:
            self._desk.see_pool(await self._cluster.get(AGENTPOOLS, pool.namespace, pool.name))
        except NotFound:
            self._desk.drop_pool(pool.namespace, pool.name)
            return
        else:
            pool.status, pool.version = status, int(written["resourceVersion"])
        pool.written_at = now


def _pace(run: Run) -> timedelta:
    """The least time between two looks at the run."""
    return _TASK_PACE * max(0, len(run.states) - _FEW_TASKS)
