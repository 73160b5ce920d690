"""Runs of Workflows get their content: frozen at the first look, read again after a restart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dawg_orchestrator.cluster import revisions
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.errors import Conflict, Invalid, InvalidSpec, NotFound
from dawg_orchestrator.planning.graph import NotAvailable
from dawg_orchestrator.planning.workflow import Content, content_of, freeze, thaw
from dawg_orchestrator.resources.reasons import Reason


class _Deleted(InvalidSpec):
    """What was frozen is gone, which is nobody's test's fault."""


class Contents:
    """Finds or makes what a run of a Workflow carries out."""

    def __init__(self, cluster: Cluster, desk: Desk, clock: Callable[[], datetime]) -> None:
        self._cluster, self._desk, self._clock = cluster, desk, clock

    async def give(self, run: Run) -> None:
        """Give the run its content, or the reason why it has none; nothing while its Workflow is not there."""
        try:
            content = await self._frozen(run) if "workflowRevision" in run.status else await self._made(run)
            if content is not None and self._desk.runs.get(run.uid) is run:
                self._desk.give_content(run, content, revisions.revision_name(_id(run)), self._clock())
        except NotAvailable as error:
            self._desk.refuse_content(run, (Reason.NOT_AVAILABLE, str(error)))
        except _Deleted as error:
            self._desk.refuse_content(run, (Reason.WORKFLOW_NOT_FOUND, str(error)))
        except InvalidSpec as error:
            self._desk.refuse_content(run, (Reason.INVALID_SPEC, str(error)))
        except Conflict as error:
            self._desk.refuse_content(run, (Reason.NAME_CONFLICT, str(error)))
        except Invalid as error:
            told = f"the cluster does not keep what the run carries out: {error}"
            self._desk.refuse_content(run, (Reason.INVALID_SPEC, told))

    async def _frozen(self, run: Run) -> Content:
        try:
            return thaw(await revisions.read(self._cluster, _id(run)))
        except NotFound:
            raise _Deleted("status.workflowRevision", "somebody deleted what was frozen for the run") from None

    async def _made(self, run: Run) -> Content | None:
        try:
            content = self._as_declared(run)
        except InvalidSpec:
            if (known := await self._of_former_leader(run)) is not None:
                return known
            raise
        if content is None:
            return await self._of_former_leader(run)
        return thaw(await revisions.freeze(self._cluster, _id(run), run.workflow or "", freeze(content)))

    def _as_declared(self, run: Run) -> Content | None:
        workflow = self._desk.library.workflows.get((run.namespace, run.workflow or ""))
        if workflow is None:
            return None
        if workflow.spec is None or workflow.wrong is not None:
            raise InvalidSpec("spec.workflowRef", f"Workflow {workflow.name} cannot be carried out: {workflow.wrong}")
        return content_of(run.spec, workflow.spec)

    async def _of_former_leader(self, run: Run) -> Content | None:
        """What one may have frozen that could not write it on status; its Workflow was changed or deleted since."""
        try:
            return thaw(await revisions.read(self._cluster, _id(run)))
        except NotFound:
            return None


def _id(run: Run) -> revisions.RunId:
    return run.namespace, run.name, run.uid
