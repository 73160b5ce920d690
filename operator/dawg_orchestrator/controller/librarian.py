"""One look at a Workflow: what its triggers ask for is started, then its status is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import TESTRUNS, WORKFLOWS, Cluster, JsonObject
from dawg_orchestrator.cluster.triggered import NameTaken, TriggeredRun, start_triggered
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.library import Workflow, WorkflowKey
from dawg_orchestrator.errors import Conflict, Invalid, NotFound
from dawg_orchestrator.planning.changes import differing
from dawg_orchestrator.planning.gitwatch import PushFacts, plan_pushes, watching
from dawg_orchestrator.planning.pullrequests import PullFacts, plan_pulls, watching_all, watching_pulls
from dawg_orchestrator.planning.triggers import AskedRun, TriggerFacts, TriggerPlan, plan_triggers
from dawg_orchestrator.planning.workflow import plan_workflow

log = structlog.get_logger()


class Librarian:
    """Keeps Workflows' statuses, and answers their triggers."""

    def __init__(self, cluster: Cluster, desk: Desk, clock: Callable[[], datetime]) -> None:
        self._cluster, self._desk, self._clock = cluster, desk, clock

    async def look(self, key: WorkflowKey) -> datetime | None:
        """Start what is asked for, and write what became of it; when to look again."""
        workflow = self._desk.library.workflows.get(key)
        if workflow is None:
            return None
        plan = await self._answer(workflow) if workflow.has_triggers else TriggerPlan((), {})
        await self._write(key, workflow, plan.triggers)
        return plan.check_again_at

    async def _write(self, key: WorkflowKey, workflow: Workflow, triggers: JsonObject) -> None:
        looks, spec = self._desk.standing.looks_of(workflow), workflow.spec
        noted = triggers.get("pullRequests") or {}
        watched = watching_all(watching(spec, looks), watching_pulls(spec, looks, noted)) if spec is not None else None
        status = plan_workflow(workflow.facts(self._desk.term, triggers, watched), self._clock())
        if differing(workflow.status, status) <= {"term"}:
            return
        try:
            written = await carry_out.write_status(
                self._cluster, WORKFLOWS, workflow.namespace, workflow.name, workflow.version, status
            )
        except Conflict:  # somebody changed it meanwhile: the next look is made of what they wrote
            self._desk.library.see(await self._cluster.get(WORKFLOWS, workflow.namespace, workflow.name))
        except NotFound:
            self._desk.library.drop(*key)
        else:
            workflow.status, workflow.version = status, int(written["resourceVersion"])

    async def _answer(self, workflow: Workflow) -> TriggerPlan:
        """Create the runs that triggers ask for; what was planned."""
        assert workflow.spec is not None  # noqa: S101
        namespace = workflow.namespace
        for name in self._desk.occurrences.to_read(namespace):
            await self._read(namespace, name)
        now = self._clock()
        plan = plan_triggers(
            TriggerFacts(
                workflow=workflow.name, uid=workflow.uid, created=workflow.created, spec=workflow.spec,
                written=workflow.status.get("triggers") or {}, failed=self._desk.occurrences.failed(namespace),
                rollouts=self._desk.occurrences.rollouts(namespace, now), answered=frozenset(workflow.answered),
            ), now,
        )  # fmt: skip
        pushes = plan_pushes(
            PushFacts(
                workflow=workflow.name, uid=workflow.uid, spec=workflow.spec,
                written=(workflow.status.get("triggers") or {}).get("git") or {},
                looks=self._desk.standing.looks_of(workflow), answered=frozenset(workflow.answered),
            )
        )  # fmt: skip
        pulls = plan_pulls(
            PullFacts(
                workflow=workflow.name, uid=workflow.uid, spec=workflow.spec,
                written=(workflow.status.get("triggers") or {}).get("pullRequests") or {},
                looks=self._desk.standing.looks_of(workflow), approvals=workflow.fork_approvals,
                answered=frozenset(workflow.answered),
            )
        )  # fmt: skip
        for asked in (*plan.runs, *pushes.runs, *pulls.runs):
            await self._start(workflow, asked)
        noted = {"git": pushes.noted, "pullRequests": pulls.noted}
        return replace(plan, triggers=plan.triggers | {kind: told for kind, told in noted.items() if told})

    async def _read(self, namespace: str, name: str) -> None:
        try:
            self._desk.occurrences.see_finished(await self._cluster.get(TESTRUNS, namespace, name), self._clock())
        except NotFound:
            log.info("a failed run is gone before triggers could look at it", namespace=namespace, run=name)
        self._desk.occurrences.was_read(namespace, name)

    async def _start(self, workflow: Workflow, asked: AskedRun) -> None:
        run = TriggeredRun(
            namespace=workflow.namespace, name=asked.name, workflow=workflow.name, trigger=asked.trigger, by=asked.by,
            parameters=asked.parameters, source=asked.source, parent=asked.parent, gate=asked.gate,
        )  # fmt: skip
        try:
            new = await start_triggered(self._cluster, run)
        except (NameTaken, Invalid) as error:  # it can never be: what the trigger asks for is left out, others are not
            log.warning("a trigger could not be answered", workflow=workflow.name, trigger=asked.by, error=str(error))
        else:
            if new:
                log.info("run started", namespace=run.namespace, workflow=run.workflow, run=run.name, by=run.by)
        workflow.answered.add(asked.name)
