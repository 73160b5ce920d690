"""The run that a webhook asks for: created once, however often that is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, JsonObject
from dawg_orchestrator.errors import Conflict
from dawg_orchestrator.resources import names


class NameTaken(Exception):
    """A run of that name exists, and is not this delivery's."""


@dataclass(frozen=True, slots=True)
class HookedRun:
    """What is to run, and what asked for it."""

    namespace: str
    name: str
    workflow: str
    event: str
    delivery: str
    parameters: Mapping[str, str]


async def start_hooked(cluster: Cluster, run: HookedRun) -> bool:
    """Whether the run is new; NameTaken when something else has its name."""
    try:
        await cluster.create(TESTRUNS, run.namespace, hooked_manifest(run))
    except Conflict:
        if not _is_of(run, await cluster.get(TESTRUNS, run.namespace, run.name)):
            raise NameTaken(f"a TestRun named {run.name} exists and is none of this delivery's") from None
        return False
    return True


def hooked_manifest(run: HookedRun) -> JsonObject:
    """The run, marked with what asked for it. Nothing owns it: it outlives its Workflow, as its results do."""
    spec: JsonObject = {"workflowRef": {"name": run.workflow}}
    if run.parameters:
        spec["parameters"] = dict(run.parameters)
    marks = {names.TRIGGER: run.delivery, names.TRIGGERED_BY: f"webhook {run.event}"}
    metadata = {"namespace": run.namespace, "name": run.name, "annotations": marks}
    return {"apiVersion": names.API_VERSION, "kind": "TestRun", "metadata": metadata, "spec": spec}


def _is_of(run: HookedRun, found: JsonObject) -> bool:
    annotations = found["metadata"].get("annotations") or {}
    reference = (found.get("spec") or {}).get("workflowRef") or {}
    return annotations.get(names.TRIGGER) == run.delivery and reference.get("name") == run.workflow
