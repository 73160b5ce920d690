"""What a run of a Workflow consists of: the spec that was frozen for it, which is not the Workflow as it is now.

The controller keeps that in a ControllerRevision of the run's own, and names it on status.
"""

from __future__ import annotations

from typing import Any

from dawg_orchestrator.api.auth import Clock, Kept
from dawg_orchestrator.cluster.client import CONTROLLER_REVISIONS, Cluster
from dawg_orchestrator.cluster.pods import is_owned_by
from dawg_orchestrator.errors import Forbidden, NotFound
from dawg_orchestrator.resources.names import PARENT_TASK
from dawg_orchestrator.resources.testrun import TestRunSpec

_KEPT_SECONDS = 3600.0  # a revision never changes
_MOST_KEPT = 500
_OWN = ("workflowRef", "cancelled", "ttlAfterFinished")  # of the run itself, whatever was frozen
_USUAL_PRIORITY = TestRunSpec().priority  # of a run that asks for none: then its Workflow's counts


class Contents:
    """Reads each revision once, as long as it is not one of very many."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._kept: Kept[dict[str, Any]] = Kept(clock, _KEPT_SECONDS, _MOST_KEPT)

    async def complete(self, testrun: dict[str, Any]) -> dict[str, Any]:
        """The run with all that it consists of in its spec.

        As it is, where it lists its tasks itself, and where nobody can say: nothing is frozen yet, or its revision has
        gone with it.
        """
        if not lacks_tasks(testrun):
            return testrun
        spec, uid = testrun["spec"], testrun["metadata"]["uid"]
        frozen = self._kept.get(uid) or await self._read(testrun)
        if frozen is None:
            return testrun
        self._kept.put(uid, frozen)
        own = {name: spec[name] for name in _OWN if name in spec}
        of_step = PARENT_TASK in (testrun["metadata"].get("annotations") or {})  # what a step asks for is meant
        if of_step or spec.get("priority", _USUAL_PRIORITY) != _USUAL_PRIORITY:
            own["priority"] = spec.get("priority", _USUAL_PRIORITY)
        return {**testrun, "spec": {**frozen, **own}}

    async def _read(self, testrun: dict[str, Any]) -> dict[str, Any] | None:
        metadata, name = testrun["metadata"], (testrun.get("status") or {}).get("workflowRevision")
        if not name:
            return None
        try:
            found = await self._cluster.get(CONTROLLER_REVISIONS, metadata["namespace"], name)
        except (NotFound, Forbidden):
            return None
        spec = (found.get("data") or {}).get("spec")
        return spec if is_owned_by(found, metadata["uid"]) and isinstance(spec, dict) and spec.get("tasks") else None


def lacks_tasks(testrun: dict[str, Any]) -> bool:
    """It refers to a Workflow, and does not say what that made of it."""
    spec = testrun.get("spec") or {}
    return bool(spec.get("workflowRef")) and not spec.get("tasks")
