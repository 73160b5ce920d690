"""The runs of a Schedule: created once, found, cancelled, forgotten."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from dawg_orchestrator.cluster.carry_out import lacks_right
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, JsonObject, JsonObjects
from dawg_orchestrator.cluster.pods import is_owned_by, owner
from dawg_orchestrator.errors import Conflict, Forbidden, Invalid, NotFound
from dawg_orchestrator.planning.schedule import StartRun
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_time

_LABEL_LENGTH = 63


class RunRefused(Exception):
    """The cluster will never take the run that is wanted; the text says why."""


async def start_run(
    cluster: Cluster, namespace: str, schedule: tuple[str, str], template: JsonObject, start: StartRun
) -> JsonObject:
    """The run of a due time, created or found; ``schedule`` is (name, uid). RunRefused when it can never be."""
    name, uid = schedule
    return await create_or_find(cluster, namespace, run_manifest(namespace, name, uid, template, start), uid)


async def create_or_find(cluster: Cluster, namespace: str, body: JsonObject, owner_uid: str) -> JsonObject:
    """The run as the cluster has it, created at most once for its owner. RunRefused when it can never be."""
    name = body["metadata"]["name"]
    try:
        return await cluster.create(TESTRUNS, namespace, body)
    except Conflict:
        found = await cluster.get(TESTRUNS, namespace, name)
        if is_owned_by(found, owner_uid):
            return found
        raise RunRefused(f"a TestRun named {name} exists and has another owner") from None
    except (Invalid, Forbidden, NotFound) as error:
        if lacks_right(error, TESTRUNS):
            raise  # says nothing about this run
        raise RunRefused(f"the cluster does not accept the run: {error}") from error


def run_manifest(namespace: str, schedule: str, uid: str, template: JsonObject, start: StartRun) -> JsonObject:
    """The run as the template describes it, named and marked."""
    given: dict[str, Any] = template.get("metadata") or {}
    marks = {names.DUE: format_time(start.due)} if start.due is not None else {names.TRIGGER: start.trigger or ""}
    if start.because is not None:
        marks[names.TRIGGERED_BY] = f"schedule {schedule}: {start.because}"
    return {
        "apiVersion": names.API_VERSION, "kind": "TestRun",
        "metadata": {
            "namespace": namespace, "name": start.name,
            "labels": {**(given.get("labels") or {}), names.SCHEDULE: label(schedule)},
            "annotations": {**(given.get("annotations") or {}), **marks},
            "ownerReferences": [owner("Schedule", schedule, uid)],
        },
        "spec": template.get("spec") or {},
    }  # fmt: skip


def label(schedule: str) -> str:
    """A schedule's name as a label's value."""
    return schedule if len(schedule) <= _LABEL_LENGTH else f"{schedule[:50].strip('-.')}-{names.short_hash(schedule)}"


async def runs_of(cluster: Cluster, namespace: str, schedule: str, uid: str) -> JsonObjects:
    """All runs that the schedule has started and that still exist."""
    items, _ = await cluster.list(TESTRUNS, namespace, {"labelSelector": f"{names.SCHEDULE}={label(schedule)}"})
    return [item for item in items if is_owned_by(item, uid)]


async def stop_run(cluster: Cluster, namespace: str, name: str) -> None:
    """Cancel a run; one that is gone is fine."""
    await _change(cluster, namespace, name, {"cancelled": True})


async def forget_run(cluster: Cluster, namespace: str, name: str) -> None:
    """End a finished run's time to live: it is deleted as soon as history has it."""
    await _change(cluster, namespace, name, {"ttlAfterFinished": "0s"})


async def _change(cluster: Cluster, namespace: str, name: str, spec: JsonObject) -> None:
    with suppress(NotFound):
        await cluster.patch(TESTRUNS, namespace, name, {"spec": spec})
