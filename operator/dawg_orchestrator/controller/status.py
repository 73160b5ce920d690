"""Status on the object: coalesced writes with a resourceVersion test, then acceptance of what they contain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster
from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.elector import LeadershipLost
from dawg_orchestrator.controller.estimates import Estimates
from dawg_orchestrator.controller.occurrences import FAILED
from dawg_orchestrator.controller.overrides import announce_override
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.errors import Conflict, Invalid, NotFound
from dawg_orchestrator.planning.changes import differing, keep_waits, same_wait
from dawg_orchestrator.planning.graph import pool_of
from dawg_orchestrator.planning.plan import RunPlan
from dawg_orchestrator.planning.workflow import LastRun
from dawg_orchestrator.resources.conditions import read_conditions, transitions
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.protocol import Acceptance, LeaseId
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.verdict import Verdict

log = structlog.get_logger()

JsonObject = dict[str, Any]

EVERY = timedelta(seconds=0.5)  # between two writes of a run that goes on; of one that has many tasks up to twice that
_FOR_EACH_TASK = timedelta(milliseconds=1)  # since a write costs the apiserver as much as the status is large
_FIRST_AFTER = timedelta(seconds=0.2)  # a run that starts at once is first written as Running, not as Queued
_TRIES = 5
_NO_NEWS_OF_A_WAIT = {"term"}  # a new leader need not write to thousands of runs that wait as they did before
_ALARMING = frozenset({Reason.INVALID_SPEC, Reason.NOT_AVAILABLE, Reason.POOL_NOT_FOUND, Reason.WORKFLOW_NOT_FOUND})

Contained = tuple[tuple[str, LeaseId], ...]  # reports, each by its agent (pod uid) and lease
FinishedRun = Callable[[Run, datetime], None]


class Reporter:
    """The one writer of runs' status."""

    def __init__(
        self,
        cluster: Cluster,
        desk: Desk,
        sessions: Sessions,
        estimates: Estimates,
        clock: Callable[[], datetime],
        finished: FinishedRun,
    ) -> None:
        self._cluster, self._desk, self._sessions = cluster, desk, sessions
        self._estimates, self._clock, self._finished = estimates, clock, finished

    async def report(self, run: Run, plan: RunPlan, contained: Contained, *, at_once: bool = False) -> datetime | None:
        """Write what has changed, then accept the reports that are on status now: those the plan has taken in.

        Returns None, or when to plan and report again: it was too early to write, or somebody else wrote meanwhile.
        That a run waits is written only ``at_once``: such runs take their turns (reconcile.py).
        """
        now = self._clock()
        every = EVERY + min(EVERY, _FOR_EACH_TASK * len(run.states))
        due = (run.written_at + every) if run.written_at else ((run.seen_at or now) + _FIRST_AFTER)
        if not plan.finished and not at_once and now < due:
            return due
        before = run.status
        status = self._with_queue(run, before, plan.status)
        if differing(before, status) <= (_NO_NEWS_OF_A_WAIT if run.started_at is None and not plan.finished else set()):
            await self._accept(run, contained)
            return None
        if not plan.finished and not at_once and run.started_at is None:
            return now
        try:
            after = await self._write(run, status, contained)
        except Conflict:
            return self._clock() if await self._reread(run) else None
        if after is not None:
            await self._announce(run, before, after)
            if plan.finished:
                self._close(run, plan, after)
        return None

    async def _write(self, run: Run, status: JsonObject, contained: Contained) -> JsonObject | None:
        """Write until it is small enough; the status as it now stands.

        None when the run is gone, Conflict when somebody wrote meanwhile.
        """
        for _ in range(_TRIES):
            try:
                written = await carry_out.write_status(
                    self._cluster, TESTRUNS, run.namespace, run.name, run.version, status
                )
            except NotFound:
                self._desk.drop_run(run.uid)
                await self._refuse(run, contained, "the run is gone")
                return None
            except Invalid as error:
                status = await self._smaller(run, status, contained, error)
                continue
            if written["uid"] != run.uid:
                self._desk.drop_run(run.uid)
                return None
            run.status, run.version = status, int(written["resourceVersion"])
            run.written_at = self._clock()
            await self._accept(run, contained)
            return status
        raise Invalid(f"the status of {run.namespace}/{run.name} is refused even without its tasks", 422)

    async def _reread(self, run: Run) -> bool:
        """Somebody wrote: take their version. False when the run is not ours to write any more."""
        try:
            found = await self._cluster.get(TESTRUNS, run.namespace, run.name)
        except NotFound:
            self._desk.drop_run(run.uid)
            return False
        term = (found.get("status") or {}).get("term") or 0
        if term > self._desk.term:
            raise LeadershipLost(f"a leader of term {term} has written; this one has term {self._desk.term}")
        self._desk.see_run(found)
        return self._desk.runs.get(run.uid) is run

    async def _smaller(self, run: Run, status: JsonObject, contained: Contained, error: Invalid) -> JsonObject:
        """The API refuses the status for good: leave out all that is not the verdict, so that the run can end."""
        log.error("a status was refused", namespace=run.namespace, run=run.name, error=str(error)[:500])
        if "tasks" not in status:
            await self._refuse(run, contained, "its status cannot be written")
            raise error
        return {key: value for key, value in status.items() if key not in ("tasks", "topFailures", "outputs")}

    async def _accept(self, run: Run, contained: Contained) -> None:
        for uid, lease in contained:
            run.awaiting.pop((uid, lease), None)
            await self._sessions.send(uid, Acceptance(lease=lease, outcome="accepted"))

    async def _refuse(self, run: Run, contained: Contained, reason: str) -> None:
        for uid, lease in contained:
            run.awaiting.pop((uid, lease), None)
            await self._sessions.send(uid, Acceptance(lease=lease, outcome="refused", reason=reason))

    def _with_queue(self, run: Run, written: JsonObject, status: JsonObject) -> JsonObject:
        """Position and estimate are written on entry and when the reason changes; live ones come from the api."""
        queue = status.get("queue")
        if queue is None:
            return status
        known = written.get("queue") or {}
        if known and same_wait(known.get("reason"), queue.get("reason")):
            return {**keep_waits(written, status), "queue": known}
        return {**status, "queue": {**queue, **self._estimates.place(self._desk, run, self._clock())}}

    async def _announce(self, run: Run, before: JsonObject, after: JsonObject) -> None:
        """A Kubernetes Event for what went wrong outside the tests, and for an override."""
        await announce_override(self._cluster, (run.namespace, run.name, run.uid), before, after, self._clock())
        known, now_there = (
            read_conditions(status.get("conditions") or (), ("Succeeded",)) for status in (before, after)
        )
        for condition in transitions(known, now_there):
            reason = Reason.of(condition.reason)
            if reason is not None and (reason.infrastructure or reason in _ALARMING):
                about = (run.namespace, run.name, run.uid)
                await carry_out.announce(
                    self._cluster, TESTRUNS, about, reason, condition.message, warning=True, now=self._clock()
                )

    def _close(self, run: Run, plan: RunPlan, status: JsonObject) -> None:
        verdict = status.get("verdict", "")
        metrics.RUNS.labels(verdict).inc()
        if run.graph is not None:
            for cell, state in zip(run.graph.cells, plan.states, strict=True):
                pool = pool_of(run.spec, cell.task)
                priority = cell.task.priority or run.spec.priority
                metrics.TASKS.labels(run.namespace, pool, priority, (state.verdict or Verdict.SKIPPED).value).inc()
                if state.started_at is not None and state.ended_at is not None:
                    metrics.TASK_SECONDS.labels(run.namespace, pool).observe(
                        (state.ended_at - state.started_at).total_seconds()
                    )
        log.info("run finished", namespace=run.namespace, run=run.name, verdict=verdict)
        completed = status.get("completionTime")
        ended_at = parse_time(completed) if completed else self._clock()
        if run.workflow is not None:
            self._desk.library.run_ended((run.namespace, run.workflow), LastRun(run.name, verdict, ended_at))
        if verdict in FAILED and not run.depth and self._desk.library.looks_at_failures(run.namespace):
            self._desk.occurrences.run_failed(run.namespace, run.name)
        if run.spec.gate is not None:
            self._desk.gates.finished(run, status)
        self._desk.drop_run(run.uid)
        self._finished(run, ended_at)
