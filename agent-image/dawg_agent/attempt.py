"""Is this attempt over, and how? Pure: what was seen of it goes in, facts for the controller come out.

The verdict is not decided here. Questions are asked in order; the first one answered decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dawg_agent.podstate import (
    ContainerEnd,
    Waiting,
    began,
    container_end,
    deleted_at,
    deletion_overdue,
    ended_by_itself,
    loss_of,
    waiting_of,
)
from dawg_orchestrator.resources.protocol import JobOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import SidecarEvent, TaskResult

CHECKOUT = "checkout"  # the init container of a task whose image may have no shell to wait in
COLLECT_WITHIN = timedelta(minutes=6)  # beyond any grace a pod gets: the sidecar will say nothing more
_CANNOT_START = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})


@dataclass
class Sight:
    """What has been seen of one attempt."""

    pod: dict[str, Any] | None = None
    pod_gone: bool = False
    job_gone: bool = False
    pod_missed: bool = False  # the Job has ended and has no pod any more: it went while no agent looked
    cancelled: bool = False  # the controller said that the coming deletion is its own
    events: dict[str, SidecarEvent] = field(default_factory=dict)  # by kind, the last of each
    sidecar_read: bool = False  # its log has been read to the end
    checkout_read: bool = False
    trouble: Waiting | None = None  # from events of the Job or the pod
    last_waiting: Waiting | None = None
    waiting_since: datetime | None = None


def look(sight: Sight, order: JobOrder, now: datetime) -> Waiting | None:
    """Take note of why the attempt waits now, and since when that reason stands; None: its test has begun."""
    waiting = waiting_of(sight.pod, order.container) if sight.pod else Waiting(Reason.STARTING, "")
    if waiting is not None and waiting.reason is Reason.STARTING and sight.trouble is not None:
        waiting = sight.trouble
    if waiting is None or sight.last_waiting is None or sight.last_waiting.reason is not waiting.reason:
        sight.waiting_since = now if waiting else None
    if waiting is not None:
        sight.last_waiting = waiting
    return waiting


def conclude(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """Return the facts of an attempt that is over; None: it is not."""
    for question in (_source_failed, _held_and_collected, _ended, _taken_away, _never_had_a_pod, _hopeless):
        if result := question(sight, order, now):
            return result
    return None


def _facts(sight: Sight, order: JobOrder, **more: Any) -> TaskResult:
    """What every result carries."""
    pod = sight.pod
    end = container_end(pod, order.container) if pod else None
    source, collected = sight.events.get("source"), sight.events.get("collected")
    facts: dict[str, Any] = {
        "commit": source.commit if source else None,
        "node": (pod.get("spec") or {}).get("nodeName") if pod else None,
        "started_at": began(pod, order.container) if pod else None,
        "ended_at": end.finished_at if end else None,
        "summary": collected.summary if collected else None,
    }
    return TaskResult.model_validate(facts | more)


def _source_failed(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """The sidecar or the checkout could not do its part."""
    failed = sight.events.get("failed")
    if failed is not None:
        end = ended_by_itself(sight.pod, order.container) if sight.pod else None
        exit_code = end.exit_code if end and failed.reason is Reason.COLLECT_FAILED else None
        reason = failed.reason or Reason.COLLECT_FAILED
        return _facts(sight, order, infrastructure=reason, message=failed.message, exit_code=exit_code)
    end = ended_by_itself(sight.pod, CHECKOUT) if sight.pod else None
    if end is None or end.exit_code == 0 or not sight.checkout_read:
        return None
    message = f"the checkout ended with {_described(end)} and said nothing"
    return _facts(sight, order, infrastructure=Reason.SOURCE_UNREACHABLE, message=message)


def _held_and_collected(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """The pod is kept for debugging, so the sidecar's word must do."""
    exited, collected = sight.events.get("exited"), sight.events.get("collected")
    if not order.held or exited is None or collected is None:
        return None
    return _facts(sight, order, exit_code=exited.exit_code, ended_at=now)


def _ended(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """The test ended by itself, and what it left has been collected or never will be."""
    end = ended_by_itself(sight.pod, order.container) if sight.pod else None
    if end is None:
        return None
    if end.reason in _CANNOT_START:
        message = f"container {order.container}: {end.message or end.reason}; correct the image or the command"
        return _facts(sight, order, infrastructure=Reason.START_FAILED, message=message, started_at=None)
    oom = end.reason == "OOMKilled"
    if order.sidecar is None or "collected" in sight.events:
        return _facts(sight, order, exit_code=end.exit_code, oom_killed=oom)
    if not _sidecar_is_lost(sight, order, end, now):
        return None
    message = f"the test ended with {_described(end)}, but what it left was not collected: {_sidecar_end(sight, order)}"
    return _facts(
        sight, order, exit_code=end.exit_code, oom_killed=oom, infrastructure=Reason.COLLECT_FAILED, message=message
    )


def _sidecar_is_lost(sight: Sight, order: JobOrder, end: ContainerEnd, now: datetime) -> bool:
    if sight.pod_gone or (end.finished_at is not None and now - end.finished_at > COLLECT_WITHIN):
        return True
    ended = sight.pod is not None and order.sidecar and container_end(sight.pod, order.sidecar) is not None
    return bool(ended) and sight.sidecar_read


def _sidecar_end(sight: Sight, order: JobOrder) -> str:
    end = container_end(sight.pod, order.sidecar) if sight.pod and order.sidecar else None
    if end is not None:
        return f"the sidecar ended with {_described(end)}"
    return "the pod was deleted first" if sight.pod_gone else "the sidecar gave no answer"


def _described(end: ContainerEnd) -> str:
    return f"exit code {end.exit_code}" + (f" ({end.reason})" if end.reason not in ("", "Error", "Completed") else "")


def _taken_away(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """The pod was deleted, evicted or lost while the test was not through.

    It is over only when the test can no longer run: another attempt may start on our word.
    """
    pod = sight.pod
    if pod is None:
        return None
    loss = loss_of(pod, now)
    if not (sight.pod_gone or loss or deleted_at(pod) is not None):
        return None
    lost = sight.pod_gone or deletion_overdue(pod, now) or pod["status"].get("phase") in ("Failed", "Unknown")
    if sight.cancelled:
        return _killed(sight, order, now, lost=lost)
    if not (lost or began(pod, order.container) is None or container_end(pod, order.container)):
        return None
    if loss is not None:
        return _facts(sight, order, infrastructure=loss[0], message=loss[1])
    name = pod["metadata"].get("name", "the pod")
    message = f"pod {name} was deleted before its test had ended; somebody or something outside the run did that"
    return _facts(sight, order, infrastructure=Reason.POD_DELETED, message=message)


def _killed(sight: Sight, order: JobOrder, now: datetime, *, lost: bool) -> TaskResult | None:
    """Our own deletion: the result waits for the report of what ran until then, as long as the pod is there."""
    assert sight.pod is not None  # noqa: S101
    ended = container_end(sight.pod, order.container) is not None
    through = order.sidecar is None or "collected" in sight.events
    never_began = began(sight.pod, order.container) is None
    if not (lost or never_began or (ended and through)):
        return None
    waited = sight.last_waiting if never_began and sight.last_waiting else None
    blocked = waited is not None and waited.reason.infrastructure
    return _facts(
        sight,
        order,
        killed=True,
        infrastructure=waited.reason if waited and blocked else None,
        message=waited.message if waited and blocked else "",
        ended_at=now,
    )


def _never_had_a_pod(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """The Job is gone, or its pod, and no pod of it was ever seen."""
    if sight.pod is not None or not (sight.job_gone or sight.pod_missed):
        return None
    if sight.cancelled:
        waited = sight.last_waiting
        if waited is not None and waited.reason.infrastructure:
            return TaskResult(killed=True, infrastructure=waited.reason, message=waited.message, ended_at=now)
        return TaskResult(killed=True, ended_at=now)
    if sight.job_gone:
        message = f"Job {order.job} was deleted before it had a pod; somebody or something outside the run did that"
    else:
        message = f"the pod of Job {order.job} was evicted or deleted while no agent saw how it ended"
    return TaskResult(infrastructure=Reason.POD_DELETED, message=message, ended_at=now)


def _hopeless(sight: Sight, order: JobOrder, now: datetime) -> TaskResult | None:
    """It waits for something that will not come."""
    waiting = look(sight, order, now)
    if waiting is None or waiting.patience is None or sight.waiting_since is None or sight.cancelled:
        return None
    if now - sight.waiting_since < waiting.patience:
        return None
    return _facts(sight, order, infrastructure=waiting.reason, message=waiting.message, ended_at=now)


def news(sight: Sight, order: JobOrder, now: datetime) -> tuple[Reason, str, dict[str, Any]]:
    """Return what to tell the controller while the attempt goes on: reason, message, further fields of Progress."""
    source, exited = sight.events.get("source"), sight.events.get("exited")
    more: dict[str, Any] = {"commit": source.commit if source else None}
    waiting = look(sight, order, now)
    if waiting is not None:
        return waiting.reason, waiting.message, more
    assert sight.pod is not None  # noqa: S101 - only a pod's container can have begun
    end = container_end(sight.pod, order.container)
    code = end.exit_code if end else exited.exit_code if exited else None
    more |= {"started_at": began(sight.pod, order.container), "exit_code": code}
    return Reason.RUNNING, "the test has ended; its results are being collected" if code is not None else "", more
