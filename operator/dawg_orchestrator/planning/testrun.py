"""What happens to a TestRun next: pure, from the facts and a time.

The order is: settle what has ended (cancel, time-outs, group, failFast, needs), see what may start, report. Results
are applied before (progress.concluded), so this never waits for anything: it says when to look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import conditions, progress
from dawg_orchestrator.planning.graph import Cell, Graph
from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.plan import CancelRun, DeleteJob, RunAction, RunPlan, StopAttempt
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.report import ReportFacts, Waiting, report_status
from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import NO_TESTS, TestCounts, TestRunSpec, TopFailure
from dawg_orchestrator.resources.verdict import GREEN, Verdict

STOP_GRACE = timedelta(seconds=90)  # how long a stopped attempt may take to report before it is settled without
POOL_GRACE = timedelta(minutes=5)  # how long a run waits for a pool that does not exist
JOB_GRACE = timedelta(seconds=10)  # how long a granted attempt may be without a Job before the Job counts as lost
_STOPS_BY_PERSON = frozenset({Reason.CANCELLED, Reason.SUPERSEDED, Reason.FAIL_FAST, Reason.CONCURRENCY_SKIP})


@dataclass(frozen=True, slots=True)
class JobFact:
    """A Job of the run as the cluster has it."""

    name: str
    uid: str
    index: int
    attempt: int
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class PoolFact:
    """What a run needs to know of a pool; ``message`` says how busy it is."""

    spec: AgentPoolSpec
    reason: Reason  # why a task would wait there now
    message: str


@dataclass(frozen=True, slots=True)
class GroupRun:
    """Another unfinished run of the same concurrency group and namespace."""

    name: str
    uid: str
    created: datetime
    admitted: bool


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that decides about one run."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    term: int
    spec: TestRunSpec
    graph: Graph | None  # None: ``invalid`` says why
    invalid: tuple[Reason, str] | None
    states: tuple[TaskState, ...]
    jobs: Mapping[int, JobFact]  # newest of each index
    leased: frozenset[int]  # indexes that a live lease holds
    pools: Mapping[str, PoolFact | None]
    group: tuple[GroupRun, ...] = ()
    superseded: bool = False
    started_at: datetime | None = None  # admission: status.startTime
    commit: str | None = None
    written: Mapping[str, object] | None = None  # the status as it stands
    base_counts: TestCounts = NO_TESTS  # single tests of ended tasks that have no entry any more
    base_failures: tuple[TopFailure, ...] = ()
    outputs: Mapping[int, Mapping[str, str]] | None = None


def plan_testrun(facts: RunFacts, now: datetime) -> RunPlan:
    """The plan for a run that has no verdict on its status yet."""
    if facts.graph is None:
        return _invalid(facts, now)
    step = _Step(facts, facts.graph, list(facts.states), now)
    step.settle()
    ready, waiting = ((), {}) if step.all_done else step.find_ready()
    actions = step.actions
    finished = step.all_done
    status = report_status(step.report_facts(waiting), now)
    return RunPlan(tuple(step.states), status, tuple(ready), tuple(actions), step.next_look(), finished)


def _invalid(facts: RunFacts, now: datetime) -> RunPlan:
    reason, message = facts.invalid or (Reason.INVALID_SPEC, "")
    status = report_status(
        ReportFacts(
            term=facts.term, generation=facts.generation, created=facts.created, cells=(), states=(),
            priority=facts.spec.priority, written=facts.written or {}, verdict=Verdict.FAILED,
            why=(reason, message), started_at=facts.started_at,
        ),
        now,
    )  # fmt: skip
    return RunPlan((), status, finished=True)


class _Step:
    """One pass over a run's tasks; the list of states is its working copy."""

    def __init__(self, facts: RunFacts, graph: Graph, states: list[TaskState], now: datetime) -> None:
        self.facts, self.graph, self.states, self.now = facts, graph, states, now
        self.actions: list[RunAction] = []
        self._looks: list[datetime] = []
        self._forced: tuple[Verdict, Reason, str] | None = None

    @property
    def all_done(self) -> bool:
        return all(state.done for state in self.states)

    def settle(self) -> None:
        """Everything that ends tasks without asking an agent, and every stop that has to be asked for."""
        self._settle_missing_jobs()
        if self.facts.spec.cancelled:
            self._end_all(Reason.CANCELLED, "the run was cancelled")
        elif self.facts.superseded:
            self._end_all(Reason.SUPERSEDED, "a newer run of its concurrency group took over")
        self._settle_group_skip()
        self._settle_run_timeout()
        self._settle_task_timeouts()
        self._settle_missing_pools()
        self._settle_unfit_pools()
        self._settle_fail_fast()
        self._settle_stopped()
        self._settle_needs()
        self._drop_needless_jobs()

    # What ends tasks

    def _end_all(self, reason: Reason, message: str) -> None:
        verdict = Verdict.SKIPPED if reason is Reason.CONCURRENCY_SKIP else Verdict.CANCELLED
        for index, state in enumerate(self.states):
            if state.done:
                continue
            if state.running:
                self._stop(index, reason)
            else:
                self.states[index] = progress.settled(state, verdict, reason, message, self.now)

    def _stop(self, index: int, reason: Reason) -> None:
        if self.states[index].stopping is None:
            self.states[index] = progress.stop(self.states[index], reason, self.now)
            self.actions.append(StopAttempt(index, reason))  # also when there is no Job yet: the agent is told

    def _settle_missing_jobs(self) -> None:
        """A running attempt whose Job is gone and that no agent holds was lost: nobody will report it."""
        for index, state in enumerate(self.states):
            if not state.running or state.job is None or index in self.facts.leased:
                continue
            job = self.facts.jobs.get(index)
            if job is not None and job.attempt == state.attempt:
                continue
            lost_at = (state.granted_at or self.now) + JOB_GRACE
            if self.now < lost_at:
                self._looks.append(lost_at)
                continue
            self.states[index] = _lost(state, self.graph.cells[index], self.now)

    def _settle_group_skip(self) -> None:
        concurrency = self.facts.spec.concurrency
        if concurrency is None or self.facts.started_at is not None or concurrency.policy != "Skip":
            return
        others = [run for run in self.facts.group if run.admitted]
        if len(others) >= concurrency.max:
            message = f"run {others[0].name} of group {concurrency.group!r} is under way"
            self._end_all(Reason.CONCURRENCY_SKIP, message)

    def _settle_run_timeout(self) -> None:
        if self.facts.started_at is None:
            return
        due = self.facts.started_at + self.facts.spec.timeout
        if self.now < due:
            self._looks.append(due)
            return
        for index, state in enumerate(self.states):
            if state.running:
                self._stop(index, Reason.RUN_TIMEOUT)
            elif not state.done:
                message = f"the run's timeout of {self.facts.spec.timeout} ended before the task could start"
                self.states[index] = progress.settled(state, Verdict.TIMED_OUT, Reason.RUN_TIMEOUT, message, self.now)

    def _settle_task_timeouts(self) -> None:
        for index, state in enumerate(self.states):
            if not state.running or state.started_at is None or state.stopping is not None:
                continue
            due = state.started_at + self._timeout(self.graph.cells[index])
            if self.now >= due:
                self._stop(index, Reason.TIMEOUT)
            else:
                self._looks.append(due)

    def _settle_missing_pools(self) -> None:
        due = self.facts.created + POOL_GRACE
        for index, state in enumerate(self.states):
            if state.done or state.running:
                continue
            name = self._pool(self.graph.cells[index])
            if self.facts.pools.get(name) is not None:
                continue
            if self.now >= due:
                message = f"namespace {self.facts.namespace} has no AgentPool {name!r}; create it or name another"
                self.states[index] = progress.settled(
                    state, Verdict.INFRA_ERROR, Reason.POOL_NOT_FOUND, message, self.now
                )
            else:
                self._looks.append(due)

    def _settle_unfit_pools(self) -> None:
        """A pool that can never run a task says so at once."""
        for index, state in enumerate(self.states):
            if state.done or state.running:
                continue
            cell = self.graph.cells[index]
            pool = self.facts.pools.get(self._pool(cell))
            unfit = why_unfit(cell, pool.spec, self._pool(cell)) if pool is not None else None
            if unfit is not None:
                self.states[index] = progress.settled(state, Verdict.FAILED, unfit[0], unfit[1], self.now)

    def _settle_fail_fast(self) -> None:
        if not self.facts.spec.fail_fast:
            return
        failed = [cell.key for cell, state in zip(self.graph.cells, self.states, strict=True) if _is_red(state)]
        if not failed:
            return
        for index, state in enumerate(self.states):
            if state.running:
                self._stop(index, Reason.FAIL_FAST)
            elif not state.done:
                message = f"{failed[0]} failed and failFast is set"
                self.states[index] = progress.settled(state, Verdict.SKIPPED, Reason.FAIL_FAST, message, self.now)

    def _settle_stopped(self) -> None:
        """A stopped attempt whose agent is gone or silent gets its verdict without a report."""
        for index, state in enumerate(self.states):
            if not state.running or state.stopping is None or state.stopped_at is None:
                continue
            job = self.facts.jobs.get(index)
            nobody = index not in self.facts.leased and job is None
            due = state.stopped_at + STOP_GRACE
            if not nobody and self.now < due:
                self._looks.append(due)
                if job is not None and not job.deleting and job.attempt == state.attempt:
                    self.actions.append(StopAttempt(index, state.stopping))  # its Job came to be after the first one
                continue
            self.states[index] = _settle_stop(state, self.now)

    def _settle_needs(self) -> None:
        """Skip what can no longer run; needs are looked at first, so one pass is enough."""
        for name in self._needs_first():
            for index in self.graph.of_task[name]:
                state = self.states[index]
                if state.done or state.running or state.attempt:
                    continue
                skip = self._why_skipped(self.graph.cells[index])
                if skip is not None:
                    verdict, reason, message = skip
                    self.states[index] = progress.settled(state, verdict, reason, message, self.now)

    def _why_skipped(self, cell: Cell) -> tuple[Verdict, Reason, str] | None:
        needed = self.graph.cells_of(cell.task.needs)
        if not all(self.states[index].done for index in needed):
            return None
        if cell.task.when is not None:
            return self._why_condition_fails(cell)
        bad = [index for index in needed if self.states[index].verdict not in GREEN]
        if not bad:
            return None
        harmless = all(self.states[i].reason in (Reason.CONDITION_FALSE, Reason.NEED_SKIPPED) for i in bad)
        reason = Reason.NEED_SKIPPED if harmless else Reason.NEED_NOT_PASSED
        first = bad[0]
        message = f"it needs {self.graph.cells[first].key}, which is {self.states[first].verdict}"
        return Verdict.SKIPPED, reason, message

    def _why_condition_fails(self, cell: Cell) -> tuple[Verdict, Reason, str] | None:
        assert cell.task.when is not None  # noqa: S101
        try:
            if conditions.is_met(cell.task.when, self._ended_tasks(), self.facts.spec.parameters):
                return None
        except InvalidSpec as error:
            return Verdict.FAILED, Reason.INVALID_SPEC, str(error)
        return Verdict.SKIPPED, Reason.CONDITION_FALSE, f"its condition is false: {cell.task.when}"

    def _ended_tasks(self) -> dict[str, dict[str, object]]:
        ended: dict[str, dict[str, object]] = {}
        for name, indexes in self.graph.of_task.items():
            verdicts = [self.states[index].verdict for index in indexes]
            if all(verdict is not None for verdict in verdicts):
                outputs: dict[str, str] = {}
                for index in indexes:
                    outputs |= (self.facts.outputs or {}).get(index, {})
                ended[name] = {"verdict": str(worst(v for v in verdicts if v is not None)), "outputs": outputs}
        return ended

    def _drop_needless_jobs(self) -> None:
        """Jobs of passed tasks whose log is stored go at once; failed ones stay for people until the run goes.

        A Job of an attempt that is over, or of a task that ended some other way, must not go on running.
        """
        for index, job in self.facts.jobs.items():
            state = self.states[index]
            kept = state.done and state.verdict not in GREEN and state.attempt == job.attempt
            running = state.running and state.attempt == job.attempt
            waits_for_log = state.done and not state.log_stored
            if job.deleting or running or kept or waits_for_log or index in self.facts.leased:
                continue
            self.actions.append(DeleteJob(job.name, job.uid))

    # What may start

    def find_ready(self) -> tuple[list[QueuedTask], dict[int, Waiting]]:
        """The tasks that want a slot now, and why each other unfinished one waits."""
        ready: list[QueuedTask] = []
        waiting: dict[int, Waiting] = {}
        blocked = self._why_run_waits()
        resolving = self._needs_resolving()
        for index, state in enumerate(self.states):
            cell = self.graph.cells[index]
            if state.done:
                continue
            if state.running:
                job = self.facts.jobs.get(index)
                if job is not None and index not in self.facts.leased and state.stopping is None:
                    ready.append(self._queued(cell, adopt=True))
                continue
            why = blocked or self._why_task_waits(cell, state)
            if why is None and resolving:
                if resolving == "elsewhere":
                    why = Waiting(Reason.RESOLVING_REVISION, Reason.RESOLVING_REVISION.sentence)
                else:
                    resolving = "elsewhere"  # this task is the one that finds out; the others wait for it
            if why is not None:
                waiting[index] = why
                continue
            pool = self.facts.pools.get(self._pool(cell))
            if pool is not None:
                waiting[index] = Waiting(pool.reason, pool.message)
                ready.append(self._queued(cell, adopt=False))
        return ready, waiting

    def _why_run_waits(self) -> Waiting | None:
        concurrency = self.facts.spec.concurrency
        if concurrency is None or self.facts.started_at is not None:
            return None
        admitted = [run for run in self.facts.group if run.admitted]
        if concurrency.policy == "CancelInProgress":
            for run in self.facts.group:
                if (run.created, run.uid) < (self.facts.created, self.facts.uid):
                    self.actions.append(CancelRun(run.name, run.uid))
        mine = (self.facts.created, self.facts.uid)
        first = [run for run in self.facts.group if not run.admitted and (run.created, run.uid) < mine]
        if len(admitted) + len(first) < concurrency.max:
            return None
        names = ", ".join(run.name for run in [*admitted, *first][:3])
        return Waiting(
            Reason.WAITING_FOR_GROUP, f"group {concurrency.group!r} admits {concurrency.max}; first: {names}"
        )

    def _why_task_waits(self, cell: Cell, state: TaskState) -> Waiting | None:
        open_needs = [name for name in cell.task.needs if not self._ended(name)]
        if open_needs:
            return Waiting(Reason.WAITING_FOR_NEEDS, f"{', '.join(open_needs[:5])} must end first")
        pool = self._pool(cell)
        if self.facts.pools.get(pool) is None:
            remedy = "create it or name another"
            return Waiting(
                Reason.POOL_NOT_FOUND, f"namespace {self.facts.namespace} has no AgentPool {pool!r}; {remedy}"
            )
        due = progress.retry_at(state, cell.task.retry.backoff, f"{self.facts.uid}{cell.key}")
        if due is not None and self.now < due:
            self._looks.append(due)
            seconds = (due - self.now).total_seconds()
            return Waiting(
                Reason.RETRY_BACKOFF, f"attempt {state.attempt + 1} starts in {seconds:.0f} s: {state.message}"
            )
        return None

    def _needs_resolving(self) -> str:
        """'' when the commit is known; 'here' when the next task is to find it; 'elsewhere' while one is finding it."""
        source = self.facts.spec.source
        if source is None or source.git is None or self.facts.commit is not None:
            return ""
        return "elsewhere" if any(state.running for state in self.states) else "here"

    def _queued(self, cell: Cell, *, adopt: bool) -> QueuedTask:
        return QueuedTask(
            namespace=self.facts.namespace, run=self.facts.name, run_uid=self.facts.uid, index=cell.index,
            pool=self._pool(cell), priority=cell.task.priority or self.facts.spec.priority,
            since=self.facts.created, adopt=adopt,
        )  # fmt: skip

    # Small questions

    def _pool(self, cell: Cell) -> str:
        return cell.task.pool or self.facts.spec.pool

    def _timeout(self, cell: Cell) -> timedelta:
        pool = self.facts.pools.get(self._pool(cell))
        longest = pool.spec.max_task_duration if pool is not None else self.facts.spec.timeout
        return min(cell.task.timeout, longest) if cell.task.timeout is not None else longest

    def _ended(self, name: str) -> bool:
        return all(self.states[index].done for index in self.graph.of_task[name])

    def _needs_first(self) -> list[str]:
        order: dict[str, None] = {}
        needs = {cell.task.name: cell.task.needs for cell in self.graph.cells}
        pending = list(needs)
        while pending:
            later = [name for name in pending if not all(need in order for need in needs[name])]
            order.update(dict.fromkeys(name for name in pending if name not in later))
            pending = later
        return list(order)

    def next_look(self) -> datetime | None:
        """The earliest time at which waiting alone changes something."""
        return min(self._looks, default=None)

    def report_facts(self, waiting: Mapping[int, Waiting]) -> ReportFacts:
        """What the status is made of."""
        facts = self.facts
        verdict = worst(_counted_verdicts(self.states)) if self.all_done else None
        return ReportFacts(
            term=facts.term, generation=facts.generation, created=facts.created, cells=self.graph.cells,
            states=tuple(self.states), priority=facts.spec.priority, written=facts.written or {}, verdict=verdict,
            why=None, started_at=facts.started_at, commit=facts.commit, waiting=waiting,
            base_counts=facts.base_counts, base_failures=facts.base_failures, outputs=facts.outputs or {},
            needs_outputs=not self.all_done,
        )  # fmt: skip


def why_unfit(cell: Cell, pool: AgentPoolSpec, name: str) -> tuple[Reason, str] | None:
    """Why this pool can never run this task; None when it can."""
    if pool.executor != "Job":
        message = f"pool {name!r} has executor {pool.executor}; this release runs tasks in pools of executor Job"
        return Reason.NOT_AVAILABLE, message
    if pool.trust == "untrusted" and cell.task.secrets:
        return (
            Reason.INVALID_SPEC,
            f"tasks[{cell.task.name}].secrets: pool {name!r} is untrusted, its tasks get no Secrets",
        )
    return None


def _counted_verdicts(states: list[TaskState]) -> list[Verdict]:
    return [state.verdict for state in states if state.verdict is not None]


def _is_red(state: TaskState) -> bool:
    return state.verdict in (Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR)


def _lost(state: TaskState, cell: Cell, now: datetime) -> TaskState:
    if state.stopping is not None:
        return _settle_stop(state, now)
    lost = replace(state, running=False, reason=Reason.POD_DELETED, ended_at=now,
                   message="the task's Job was deleted before anybody saw how it ended")  # fmt: skip
    if state.infra_failures < cell.task.retry.infra.limit:
        return replace(lost, infra_failures=state.infra_failures + 1)
    return replace(lost, verdict=Verdict.INFRA_ERROR)


def _settle_stop(state: TaskState, now: datetime) -> TaskState:
    reason = state.stopping or Reason.CANCELLED
    if reason in _STOPS_BY_PERSON:
        verdict, said = Verdict.CANCELLED, reason
    elif state.started_at is None:
        waited = state.reason if state.reason is not None and state.reason.infrastructure else Reason.UNSCHEDULABLE
        verdict, said = Verdict.INFRA_ERROR, waited
    else:
        verdict, said = Verdict.TIMED_OUT, reason
    return progress.settled(state, verdict, said, state.message or reason.sentence, now)
