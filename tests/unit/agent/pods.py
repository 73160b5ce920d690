"""Pods as the API shows them, valid by default; a test states only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import AttemptRef, JobOrder

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
ATTEMPT = AttemptRef(namespace="shop", run="checkout-x", run_uid="run-1", index=0, attempt=1)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def an_order(*, sidecar: bool = True, held: bool = False) -> JobOrder:
    return JobOrder(job="checkout-1", job_uid="job-1", sidecar="sidecar" if sidecar else None, held=held)


def running(at: datetime = NOON) -> dict[str, Any]:
    return {"running": {"startedAt": format_time(at)}}


A_MINUTE_LATER = NOON + seconds(60)


def ended(
    code: int = 0, reason: str = "", *, at: datetime = A_MINUTE_LATER, began: datetime = NOON, message: str = ""
) -> dict[str, Any]:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
            "startedAt": format_time(began),
            "finishedAt": format_time(at),
        }
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def a_pod(
    test: dict[str, Any] | None = None,
    sidecar: dict[str, Any] | None = None,
    *,
    deleted: datetime | None = None,
    grace: int = 30,
    **status: Any,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "checkout-1-abc", "uid": "pod-1", "labels": {}}
    if deleted:
        metadata["deletionTimestamp"] = format_time(deleted + seconds(grace))
        metadata["deletionGracePeriodSeconds"] = grace
    state: dict[str, Any] = {"phase": "Running", "conditions": []} | status
    if test is not None:
        state["containerStatuses"] = [{"name": "test", "image": "example/test:1", "state": test, "restartCount": 0}]
    if sidecar is not None:
        state["initContainerStatuses"] = [{"name": "sidecar", "image": "agent", "state": sidecar, "restartCount": 0}]
    return {"metadata": metadata, "spec": {"nodeName": "node-a"}, "status": state}


def disrupted(reason: str, message: str = "", at: datetime = NOON) -> dict[str, Any]:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": format_time(at),
    }
