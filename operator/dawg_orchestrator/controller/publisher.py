"""One look at what forges are to show for a namespace's gated runs: agents are sent it, and status tells the end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog

from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.gates import publication_id
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.errors import Conflict, NotFound
from dawg_orchestrator.planning.gitwatch import pool_of_watches
from dawg_orchestrator.planning.publishing import GatedRun, Publication
from dawg_orchestrator.resources.names import BUILTIN_POOL
from dawg_orchestrator.resources.protocol import Publish
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import GateStatus

log = structlog.get_logger()

JsonObject = dict[str, Any]
_TRIES = 3


class Publisher:
    """Has verdicts published, and writes on finished runs that they are."""

    def __init__(
        self, cluster: Cluster, desk: Desk, sessions: Sessions, run_link: str, clock: Callable[[], datetime]
    ) -> None:
        self._cluster, self._desk, self._sessions, self._clock = cluster, desk, sessions, clock
        self._run_link = run_link

    async def look(self, namespace: str) -> datetime | None:
        """Send and settle what is due; when to look again though nothing happens."""
        gates = self._desk.gates
        for run in gates.to_verify(namespace):
            await self._verify(run)
        for run, gate in gates.to_settle(namespace):
            await self._settle(run, gate)
        for publication in list(gates.to_send(namespace, self._clock())):
            await self._send(publication)
        return gates.next_at(namespace)

    async def supersede_older(self, run: Run) -> None:
        """Before the run's own verdict is written: no older one may open its gate again, even across a restart."""
        for older, gate in self._desk.gates.older_unsettled(run):
            await self._settle(older, gate)

    async def _verify(self, run: GatedRun) -> None:
        """Has it ended, or was it deleted?"""
        gone = False
        try:
            found = await self._cluster.get(TESTRUNS, run.target.namespace, run.name)
            gone = found["metadata"]["uid"] != run.uid
            if not gone and (found.get("status") or {}).get("verdict"):
                self._desk.gates.see_finished(found, self._clock())
        except NotFound:
            gone = True
        self._desk.gates.verified(run.uid, gone=gone)

    async def _send(self, publication: Publication) -> None:
        gates, target = self._desk.gates, publication.target
        workflow = self._desk.library.workflows.get((target.namespace, publication.workflow))
        pool = pool_of_watches(workflow.spec) if workflow is not None and workflow.spec is not None else BUILTIN_POOL
        agent = self._desk.standing.agent_for(target.namespace, pool, publication_id(target))
        if agent is None:
            told = f"no agent of pool {pool} is connected, which is to publish the verdict"
            gates.not_sent(publication, (Reason.NO_AGENT_READY, told), self._clock())
            return
        serial = gates.sending(publication, agent, self._clock())
        if serial is None:
            return
        message = Publish(
            serial=serial, repository=target.repository, context=target.context, commit=target.commit,
            workflow=publication.workflow, url=publication.url, state=publication.state,
            description=publication.description, run=publication.run,
            link=self._run_link.replace("{namespace}", target.namespace).replace("{name}", publication.run),
        )  # fmt: skip
        if await self._sessions.send(agent, message):
            log.info(
                "gate sent", namespace=target.namespace, run=publication.run, state=publication.state,
                repository=target.repository, commit=target.commit,
            )  # fmt: skip

    async def _settle(self, run: GatedRun, gate: JsonObject) -> None:
        """Write into the status of a finished run; only that part of it changes."""
        for _ in range(_TRIES):
            try:
                found = await self._cluster.get(TESTRUNS, run.target.namespace, run.name)
                if found["metadata"]["uid"] != run.uid:
                    raise NotFound("another run has its name", 404)
                status = found.get("status") or {}
                known = status.get("gate") or {}
                changed = {name: value for name, value in {**known, **gate}.items() if value is not None}
                wanted = {**status, "term": self._desk.term, "gate": GateStatus.model_validate(changed).wire()}
                await carry_out.write_status(
                    self._cluster, TESTRUNS, run.target.namespace, run.name, version_of(found), wanted
                )
            except NotFound:
                self._desk.gates.forget(run.uid)
                return
            except Conflict:
                continue
            self._desk.gates.settled(run, gate)
            return
        raise Conflict(f"{run.target.namespace}/{run.name} is written by others again and again", 409)
