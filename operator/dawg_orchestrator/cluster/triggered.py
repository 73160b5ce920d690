"""The run that a trigger asks for: created once, however often the trigger comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, JsonObject
from dawg_orchestrator.errors import Conflict
from dawg_orchestrator.resources import names


class NameTaken(Exception):
    """A run of that name exists, and is not this trigger's."""


@dataclass(frozen=True, slots=True)
class TriggeredRun:
    """What is to run, and what asked for it: ``trigger`` is its identity, ``by`` is for people."""

    namespace: str
    name: str
    workflow: str
    trigger: str
    by: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    source: JsonObject | None = None
    parent: str | None = None  # uid of the run whose end it was
    root: str | None = None
    gate: JsonObject | None = None


async def start_triggered(cluster: Cluster, run: TriggeredRun) -> bool:
    """Whether the run is new; NameTaken when something else has its name."""
    try:
        await cluster.create(TESTRUNS, run.namespace, triggered_manifest(run))
    except Conflict:
        if not _is_of(run, await cluster.get(TESTRUNS, run.namespace, run.name)):
            raise NameTaken(f"a TestRun named {run.name} exists and is none of this trigger's") from None
        return False
    return True


def triggered_manifest(run: TriggeredRun) -> JsonObject:
    """The run, marked with what asked for it. Nothing owns it: it outlives its Workflow, as its results do."""
    spec: JsonObject = {"workflowRef": {"name": run.workflow}}
    if run.parameters:
        spec["parameters"] = dict(run.parameters)
    if run.source:
        spec["source"] = run.source
    if run.gate:
        spec["gate"] = run.gate
    metadata: JsonObject = {
        "namespace": run.namespace, "name": run.name,
        "annotations": {names.TRIGGER: run.trigger, names.TRIGGERED_BY: run.by},
    }  # fmt: skip
    if run.parent is not None:
        metadata["labels"] = {names.PARENT: run.parent, names.ROOT: run.root or run.parent}
        metadata["annotations"][names.DEPTH] = "1"
    return {"apiVersion": names.API_VERSION, "kind": "TestRun", "metadata": metadata, "spec": spec}


def _is_of(run: TriggeredRun, found: JsonObject) -> bool:
    annotations = found["metadata"].get("annotations") or {}
    reference = (found.get("spec") or {}).get("workflowRef") or {}
    return annotations.get(names.TRIGGER) == run.trigger and reference.get("name") == run.workflow
