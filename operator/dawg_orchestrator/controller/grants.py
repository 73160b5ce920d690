"""From an assignment to work under way: record what must be on status first, create the Job, tell the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from dawg_orchestrator.cluster.carry_out import Refused, check_secrets, create_job
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.cluster.process import process_order
from dawg_orchestrator.cluster.request import AttemptRequest
from dawg_orchestrator.cluster.sidecar import has_sidecar
from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.desk import Desk, PoolKey
from dawg_orchestrator.controller.gather import run_facts
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.workqueue import Key, WorkQueue
from dawg_orchestrator.errors import ClusterError, Conflict, InvalidSpec
from dawg_orchestrator.planning.dispatch import Assignment
from dawg_orchestrator.planning.lease import Lease
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.told import step_order
from dawg_orchestrator.resources.protocol import Finished, Grant, JobOrder, StepOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult

log = structlog.get_logger()

_AT_ONCE = 16  # Jobs that are created at the same time
_TRY_AGAIN = timedelta(seconds=1)


class Granting:
    """Empties pools' queues into their agents' free slots."""

    def __init__(
        self,
        cluster: Cluster,
        desk: Desk,
        sessions: Sessions,
        queue: WorkQueue,
        around: Surroundings,
        record: Callable[[Run], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster, self._desk, self._sessions, self._queue = cluster, desk, sessions, queue
        self._around, self._record, self._clock = around, record, clock
        self._creating = asyncio.Semaphore(_AT_ONCE)

    async def dispatch(self, key: PoolKey) -> None:
        """Give every free slot of the pool to the queue; returns when all is under way or given up."""
        now = self._clock()
        assignments = self._desk.assign(key, now)
        # All are taken over before the first wait, so that nobody else assigns the same slot or task.
        started = [(assignment, self._desk.start(assignment, now)) for assignment in assignments]
        if len(started) == 1:  # by itself: a task of its own would only cost time
            await self._grant(*started[0])
        else:
            await asyncio.gather(*(self._grant(assignment, lease) for assignment, lease in started))

    async def _grant(self, assignment: Assignment, lease: Lease) -> None:
        async with self._creating:
            run = self._desk.runs.get(lease.attempt.run_uid)
            if run is None or run.graph is None:
                self._desk.table.end(lease.task)
                return
            request = self._request(run, assignment, lease)
            try:
                grant = await self._order(run, assignment, lease, request)
            except Refused as error:
                result = TaskResult(infrastructure=error.reason, message=str(error))
                finished = Finished(lease=lease.id, attempt=lease.attempt, result=result)
                self._desk.conclude(run, finished, self._clock())
                return
            except ClusterError as error:
                log.warning("an attempt could not be started now", task=request.name, error=str(error))
                self._give_up(assignment, lease)
                return
            except Exception:  # a fault of ours must not keep the task and the slot for ever
                self._give_up(assignment, lease)
                raise
        if self._desk.table.holder(lease.task) is not lease:
            return  # it ended while we waited; what becomes of the attempt is decided already
        lease.told = True
        if not await self._sessions.send(lease.agent, grant) and grant.job is None:
            self._give_up(assignment, lease)  # no Job says that it has begun, so it has not
        if not assignment.task.adopt:
            waited = (self._clock() - run.created).total_seconds()
            metrics.QUEUE_SECONDS.labels(run.namespace, assignment.task.pool).observe(waited)

    def _give_up(self, assignment: Assignment, lease: Lease) -> None:
        """Let the task wait again, and look at the queue a little later."""
        self._desk.take_back(lease)
        key = Key("Dispatch", assignment.task.namespace, assignment.task.pool)
        self._queue.add(key, self._clock() + _TRY_AGAIN)

    def _request(self, run: Run, assignment: Assignment, lease: Lease) -> AttemptRequest:
        assert run.graph is not None  # noqa: S101
        return AttemptRequest(
            namespace=run.namespace, run=run.name, run_uid=run.uid, spec=run.spec, graph=run.graph,
            cell=run.graph.cells[assignment.task.index], attempt=lease.attempt.attempt,
            pool_name=assignment.task.pool, pool=self._desk.pools[run.namespace, assignment.task.pool].spec,
            commit=run.commit, outputs=run.outputs,
        )  # fmt: skip

    async def _order(self, run: Run, assignment: Assignment, lease: Lease, request: AttemptRequest) -> Grant:
        """What the agent is told; before that, what must be on status, and the Job where there is to be one."""
        task, grant = request.cell.task, Grant(lease=lease.id, attempt=lease.attempt, key=request.cell.key)
        if assignment.task.adopt:
            job = run.jobs.get(assignment.task.index)
            if job is None:
                raise Conflict("the Job went away before it could be adopted", 409)
            return grant.model_copy(update={"job": _supervise(request, job.name, job.uid)})
        if task.exclusive or run.spec.concurrency is not None or request.attempt > 1:
            # On status before it happens: what must not start twice, not even across a restart, and what came of the
            # attempt before, which a pass of this one must not hide.
            await self._record(run)
        if request.pool.executor == "Builtin":
            order = self._step_order(run, request)
            if order.git is not None:
                await check_secrets(self._cluster, request)
            return grant.model_copy(update={"step": order})
        if request.pool.executor == "Process":
            await check_secrets(self._cluster, request)
            return grant.model_copy(update={"process": process_order(request, self._around)})
        created = await create_job(self._cluster, request, self._around)
        self._desk.see_job(created)
        metadata = created["metadata"]
        return grant.model_copy(update={"job": _supervise(request, metadata["name"], metadata["uid"])})

    def _step_order(self, run: Run, request: AttemptRequest) -> StepOrder:
        now = self._clock()
        try:
            return step_order(Step(run_facts(self._desk, run, now), request.graph, now), request.cell)
        except InvalidSpec as error:
            raise Refused(Reason.INVALID_SPEC, str(error)) from error


def _supervise(request: AttemptRequest, job: str, uid: str) -> JobOrder:
    task = request.cell.task
    held = task.on_failure is not None and task.on_failure.hold is not None
    return JobOrder(job=job, job_uid=uid, sidecar="sidecar" if has_sidecar(request) else None, held=held)
