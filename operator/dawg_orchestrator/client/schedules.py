"""Schedules as the person handles them: list, and start one now."""

from __future__ import annotations

import time

from dawg_orchestrator.client.connection import Cluster, JsonObject, resource_path
from dawg_orchestrator.client.exits import GAVE_UP, CommandFailed
from dawg_orchestrator.errors import NotFound
from dawg_orchestrator.resources.names import TRIGGER, triggered_name
from dawg_orchestrator.resources.reasons import Reason

_PLURAL = "schedules"
_PATIENCE_SECONDS = 20.0  # for a controller to answer
_LOOK_SECONDS = 0.2


def list_schedules(cluster: Cluster, namespace: str) -> list[JsonObject]:
    """All Schedules of the namespace, by name."""
    try:
        found = cluster.items(resource_path(_PLURAL, namespace))
    except NotFound as error:
        raise CommandFailed("the cluster has no schedules.dawg.dev: install the dawg chart first", GAVE_UP) from error
    return sorted(found, key=lambda schedule: str(schedule["metadata"]["name"]))


def start_now(cluster: Cluster, namespace: str, name: str, by: str) -> tuple[JsonObject, str]:
    """Ask for a run by a new annotation, and wait until a controller has answered: the Schedule, the run's name."""
    path = resource_path(_PLURAL, namespace, name)
    try:
        pressed = cluster.merge(path, {"metadata": {"annotations": {TRIGGER: by}}})
    except NotFound as error:
        message = f"namespace {namespace!r} has no Schedule {name!r}; `dawg schedules` lists those it has"
        raise NotFound(message, error.status) from error
    found, until = pressed, time.monotonic() + _PATIENCE_SECONDS
    while (found.get("status") or {}).get("lastTrigger") != by:
        if time.monotonic() > until:
            message = f"no controller has answered within {_PATIENCE_SECONDS:.0f} s; is the namespace watched?"
            raise CommandFailed(f"{message} It starts the run as soon as it sees the schedule", GAVE_UP)
        time.sleep(_LOOK_SECONDS)
        found = cluster.get(path)
    for entry in _missed(found):
        if entry["reason"] == Reason.RUN_REFUSED and entry not in _missed(pressed):
            raise CommandFailed(f"the run was not started: {entry.get('message')}", GAVE_UP)
    return found, triggered_name(name, str(found["metadata"]["uid"]), by)


def _missed(schedule: JsonObject) -> list[JsonObject]:
    return list((schedule.get("status") or {}).get("missed") or ())
