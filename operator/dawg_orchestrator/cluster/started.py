"""Runs that a step of a run asks for: created once each, owned by it, with no more rights than it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, JsonObject, JsonObjects
from dawg_orchestrator.cluster.pods import is_owned_by, owner
from dawg_orchestrator.cluster.scheduled import RunRefused, create_or_find
from dawg_orchestrator.planning.plan import WantedRun
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.steps import RECOMMENDED_PARAMETER
from dawg_orchestrator.resources.testrun import TestRunSpec


@dataclass(frozen=True, slots=True)
class Parent:
    """The run whose step asks; ``root`` is the uid of the run that it all goes back to."""

    namespace: str
    name: str
    uid: str
    root: str
    depth: int
    spec: TestRunSpec
    commit: str | None


async def start_run(cluster: Cluster, parent: Parent, index: int, wanted: WantedRun) -> JsonObject:
    """The run, created or found; RunRefused when it can never be, or somebody else has made another of its name."""
    body = run_manifest(parent, index, wanted)
    found = await create_or_find(cluster, parent.namespace, body, parent.uid)
    if not _is_the_one(found, body, parent):
        raise RunRefused(f"a TestRun named {wanted.name} exists and is not what the step asks for; delete it")
    return found


def _is_the_one(found: JsonObject, wanted: JsonObject, parent: Parent) -> bool:
    """Whether a run that was there is what would have been created, whatever people may change of it.

    Which tests come first may be said in another way after a restart; that makes it no other run.
    """
    metadata, marks = found["metadata"], wanted["metadata"]
    same = all(
        (metadata.get(place) or {}).get(key) == value
        for place in ("labels", "annotations") for key, value in marks[place].items() if key != names.RECOMMENDED
    )  # fmt: skip
    try:
        there, asked = (TestRunSpec.model_validate(obj.get("spec") or {}) for obj in (found, wanted))
    except ValidationError:
        return False
    return same and _fixed(there, parent) == _fixed(asked, parent)


def _fixed(spec: TestRunSpec, parent: Parent) -> TestRunSpec:
    """The spec without what people may change, and with the commit that the revision was found to be."""
    parameters = {name: value for name, value in spec.parameters.items() if name != RECOMMENDED_PARAMETER}
    changed = {"priority": "medium", "cancelled": False, "ttl_after_finished": None, "parameters": parameters}
    fixed = spec.model_copy(update=changed)
    ours = parent.spec.source.git if parent.spec.source is not None else None
    git = spec.source.git if spec.source is not None else None
    if spec.source is None or git is None or ours is None or git.revision != ours.revision:
        return fixed
    resolved = git.model_copy(update={"revision": parent.commit or git.revision})
    return fixed.model_copy(update={"source": spec.source.model_copy(update={"git": resolved})})


def run_manifest(parent: Parent, index: int, wanted: WantedRun) -> JsonObject:
    """The run of a Workflow on what its parent tests: the same commit, at most the same priority, and never a gate."""
    source = parent.spec.source.wire() if parent.spec.source is not None else None
    if source is not None and parent.commit and "git" in source:
        source["git"]["revision"] = parent.commit
    spec: dict[str, Any] = {
        "workflowRef": {"name": wanted.workflow}, "priority": wanted.priority, "parameters": wanted.parameters,
        "source": source,
    }  # fmt: skip
    annotations = {names.PARENT_TASK: str(index), names.DEPTH: str(parent.depth + 1)}
    if wanted.recommended:
        annotations[names.RECOMMENDED] = str(wanted.recommended)
    return {
        "apiVersion": names.API_VERSION, "kind": "TestRun",
        "metadata": {
            "namespace": parent.namespace, "name": wanted.name,
            "labels": {names.PARENT: parent.uid, names.ROOT: parent.root}, "annotations": annotations,
            "ownerReferences": [owner("TestRun", parent.name, parent.uid)],
        },
        "spec": {key: value for key, value in spec.items() if value},
    }  # fmt: skip


async def runs_of(cluster: Cluster, namespace: str, parent_uid: str) -> JsonObjects:
    """All runs that steps of a run have started and that still exist."""
    items, _ = await cluster.list(TESTRUNS, namespace, {"labelSelector": f"{names.PARENT}={parent_uid}"})
    return [item for item in items if is_owned_by(item, parent_uid)]
