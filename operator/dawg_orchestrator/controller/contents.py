"""Runs of Workflows get their content: frozen at the first look, read again after a restart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from dawg_orchestrator.cluster import revisions
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.errors import InvalidSpec, NotFound
from dawg_orchestrator.planning.graph import NotAvailable
from dawg_orchestrator.planning.workflow import Content, content_of, freeze, thaw
from dawg_orchestrator.resources.reasons import Reason


class Contents:
    """Finds or makes what a run of a Workflow carries out."""

    def __init__(self, cluster: Cluster, desk: Desk, clock: Callable[[], datetime]) -> None:
        self._cluster, self._desk, self._clock = cluster, desk, clock

    async def give(self, run: Run) -> None:
        """Give the run its content, or the reason why it has none; nothing while its Workflow is not there."""
        try:
            content = await self._frozen(run) if "workflowRevision" in run.status else await self._made(run)
        except NotAvailable as error:
            self._desk.refuse_content(run, (Reason.NOT_AVAILABLE, str(error)))
        except InvalidSpec as error:
            self._desk.refuse_content(run, (Reason.INVALID_SPEC, str(error)))
        except ValidationError as error:
            told = f"its frozen content cannot be read: {error.errors()[0]['msg']}"
            self._desk.refuse_content(run, (Reason.INVALID_SPEC, told))
        else:
            if content is not None and self._desk.runs.get(run.uid) is run:
                self._desk.give_content(run, content, revisions.revision_name(_id(run)), self._clock())

    async def _frozen(self, run: Run) -> Content:
        try:
            return thaw(await revisions.read(self._cluster, _id(run)))
        except NotFound:
            raise InvalidSpec("status.workflowRevision", "somebody deleted what was frozen for the run") from None

    async def _made(self, run: Run) -> Content | None:
        workflow = self._desk.library.workflows.get((run.namespace, run.workflow or ""))
        if workflow is None:
            try:  # frozen by a former leader, and its Workflow deleted since
                return thaw(await revisions.read(self._cluster, _id(run)))
            except NotFound:
                return None
        if workflow.spec is None or workflow.wrong is not None:
            raise InvalidSpec("spec.workflowRef", f"Workflow {workflow.name} cannot be carried out: {workflow.wrong}")
        content = content_of(run.spec, workflow.spec)
        return thaw(await revisions.freeze(self._cluster, _id(run), workflow.name, freeze(content)))


def _id(run: Run) -> revisions.RunId:
    return run.namespace, run.name, run.uid
