"""What a run of a Workflow carries out, frozen in a ControllerRevision that the run owns."""

from __future__ import annotations

from typing import Any

from dawg_orchestrator.cluster.client import CONTROLLER_REVISIONS, Cluster, JsonObject
from dawg_orchestrator.cluster.pods import is_owned_by, owner
from dawg_orchestrator.errors import Conflict
from dawg_orchestrator.resources import names

RunId = tuple[str, str, str]  # namespace, name, uid


def revision_name(run: RunId) -> str:
    """The name of the run's revision: always the same."""
    return names.child_name(run[1], run[2], "content", 0)


async def freeze(cluster: Cluster, run: RunId, workflow: str, content: JsonObject) -> JsonObject:
    """Store the content, or find what was stored for the run before; Conflict when the name is somebody else's."""
    namespace, name, uid = run
    body: dict[str, Any] = {
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "namespace": namespace, "name": revision_name(run),
            "labels": {names.RUN: uid},
            "annotations": {names.WORKFLOW: workflow},
            "ownerReferences": [owner("TestRun", name, uid)],
        },
        "revision": 1, "data": content,
    }  # fmt: skip
    try:
        await cluster.create(CONTROLLER_REVISIONS, namespace, body)
    except Conflict:
        return await read(cluster, run)
    return content


async def read(cluster: Cluster, run: RunId) -> JsonObject:
    """What was stored for the run; NotFound when nothing was."""
    namespace, _, uid = run
    found = await cluster.get(CONTROLLER_REVISIONS, namespace, revision_name(run))
    if not is_owned_by(found, uid):
        raise Conflict(f"a ControllerRevision named {revision_name(run)} exists and is not this run's", 409)
    content: JsonObject = found.get("data") or {}
    return content
