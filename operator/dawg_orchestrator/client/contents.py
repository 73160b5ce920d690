"""What a run carries out: its own tasks, or what was frozen of its Workflow when it began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dawg_orchestrator.client.connection import Cluster, JsonObject, resource_path
from dawg_orchestrator.client.exits import GAVE_UP, CommandFailed
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.errors import Forbidden, NotFound

_API = "apis/apps/v1"


@dataclass(frozen=True, slots=True)
class Content:
    """The spec with its tasks, the stage of each task that is in one, and the types of parameters that have one."""

    spec: JsonObject
    stages: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[JsonObject]:
        """The tasks as declared."""
        return list(self.spec.get("tasks") or ())


def content_of(cluster: Cluster, run: Run) -> Content | None:
    """The content; None for a run of a Workflow while nothing is frozen for it."""
    if run.spec.get("tasks"):
        return Content(run.spec)
    revision = run.status.workflow_revision
    if revision is None:
        return None
    try:
        found = cluster.get(resource_path("controllerrevisions", run.namespace, revision, api=_API))
    except NotFound as error:
        message = f"what was frozen for TestRun {run.name} is deleted (ControllerRevision {revision})"
        raise CommandFailed(message, GAVE_UP) from error
    except Forbidden as error:
        message = f"what was frozen for TestRun {run.name} may not be read: {error}; ask for the role dawg-viewer"
        raise Forbidden(message, error.status) from error
    return read_content(found.get("data") or {})


def read_content(data: Mapping[str, Any]) -> Content:
    """What the controller has stored."""
    stages = {task: stage for stage, tasks in (data.get("stages") or {}).items() for task in tasks}
    return Content(dict(data.get("spec") or {}), stages, dict(data.get("types") or {}))
