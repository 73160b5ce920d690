"""Every trigger of the controller but TestRuns (runwatch.py): which event of the cluster is told to the desk.

kopf watches; its low-level ``on.event`` writes nothing to users' objects, needs no finalizer, and returns nothing
(what a handler returns would be written to status). Lost events are found by the resync (resync.py).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from dawg_orchestrator.cluster.client import (
    AGENTPOOLS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    SCHEDULES,
    TESTRUNS,
    WORKFLOWS,
    Resource,
)
from dawg_orchestrator.cluster.credentials import service_account_server
from dawg_orchestrator.cluster.observe import WATCHED
from dawg_orchestrator.controller.desk import Desk

Told = Callable[[dict[str, Any]], None]


def make_registry(desk: Desk) -> kopf.OperatorRegistry:
    """The handlers: one line each, the object goes to the desk.

    All are coroutines: kopf runs plain functions in threads, and the desk is the event loop's alone.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(**kwargs)
        if found is None:
            return kopf.login_with_kubeconfig(**kwargs)
        # By address, as all our other calls: a DNS that is down must not blind the watches.
        return dataclasses.replace(found, server=service_account_server())

    def named(drop: Callable[[str, str], None]) -> Told:
        return lambda obj: drop(obj["metadata"]["namespace"], obj["metadata"]["name"])

    def told(gone: Told, there: Told) -> Callable[..., Awaitable[None]]:
        async def changed(*, event: kopf.RawEvent, **_: Any) -> None:
            (gone if event["type"] == "DELETED" else there)(dict(event["object"]))

        return changed

    for resource, gone, there in (
        (JOBS, desk.drop_job, desk.see_job),
        (PODS, desk.drop_pod, desk.see_pod),
        (DEPLOYMENTS, desk.drop_deployment, desk.see_deployment),
        (AGENTPOOLS, named(desk.drop_pool), desk.see_pool),
        (SCHEDULES, named(desk.timetable.drop), desk.timetable.see),
        (WORKFLOWS, named(desk.library.drop), desk.library.see),
    ):
        kopf.on.event(*_selector(resource), id=resource.plural, registry=registry)(told(gone, there))
    return registry


class _NoMemory(kopf.DiffBaseStorage):
    """kopf would make a copy of every object at every event, to tell its handlers what has changed; we have none."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def make_settings() -> kopf.OperatorSettings:
    """kopf as a watcher and nothing else: no peering, no posting, no scanning, server-side selectors."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoMemory()
    settings.queueing.idle_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    for resource, selectors in WATCHED:
        if resource is TESTRUNS:
            continue
        if "fieldSelector" in selectors:
            settings.watching.field_selectors[_selector(resource)] = selectors["fieldSelector"]
        if "labelSelector" in selectors:
            settings.watching.label_selectors[_selector(resource)] = selectors["labelSelector"]
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return settings


def _selector(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural
