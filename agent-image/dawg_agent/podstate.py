"""What a pod's status means. Pure: a pod as the API shows it goes in, our own words come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.reasons import Reason

JsonObject = dict[str, Any]

PATIENCE = timedelta(seconds=30)  # what is hopeless only if it lasts
SERVICE_RESTARTS = 5  # a service that ended so often will not come up
NODE_SILENT_AFTER = timedelta(seconds=30)  # beyond a deletion's deadline: the kubelet no longer answers
_HOPELESS_IMAGE = ("not found", "manifest unknown", "repository does not exist", "invalid reference format")
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_CREATE = frozenset({"CreateContainerError", "RunContainerError", "PreCreateHookError", "PostStartHookError"})
_NODE_GONE = frozenset(
    {"DeletionByTaintManager", "DeletionByPodGC", "NodeLost", "NodeShutdown", "Shutdown", "Terminated"}
)
_QUOTA = ("exceeded quota", "status unknown for quota")  # the second: a quota that was made a moment ago
_MESSAGE = 600


@dataclass(frozen=True)
class Waiting:
    """Why the test does not run yet. ``patience``: how long it may stay so; None: as long as the task may run."""

    reason: Reason
    message: str
    patience: timedelta | None = None


@dataclass(frozen=True)
class ContainerEnd:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None


def _time(text: object) -> datetime | None:
    return parse_time(text) if isinstance(text, str) and text else None


def _statuses(pod: JsonObject) -> Iterator[JsonObject]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _status(pod: JsonObject, container: str) -> JsonObject:
    return next((status for status in _statuses(pod) if status.get("name") == container), {})


def _condition(pod: JsonObject, kind: str) -> JsonObject:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def container_end(pod: JsonObject, container: str) -> ContainerEnd | None:
    """Return how a container ended; None: it has not, or never began."""
    ended = (_status(pod, container).get("state") or {}).get("terminated")
    if not ended:
        return None
    return ContainerEnd(
        exit_code=int(ended.get("exitCode", -1)),
        reason=ended.get("reason", ""),
        message=ended.get("message", "")[:_MESSAGE],
        started_at=_time(ended.get("startedAt")),
        finished_at=_time(ended.get("finishedAt")),
    )


def began(pod: JsonObject, container: str) -> datetime | None:
    """Return when a container started; None: it has not."""
    state = _status(pod, container).get("state") or {}
    return _time((state.get("running") or state.get("terminated") or {}).get("startedAt"))


def has_log(pod: JsonObject, container: str) -> bool:
    """Say whether the container has ever run, so that the kubelet can show its log."""
    status = _status(pod, container)
    state = status.get("state") or {}
    return bool(state.get("running") or state.get("terminated") or status.get("restartCount"))


def deleted_at(pod: JsonObject) -> datetime | None:
    """Return when somebody asked for the pod's deletion; None: nobody has."""
    deadline = _time(pod["metadata"].get("deletionTimestamp"))
    if deadline is None:
        return None
    return deadline - timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0)


def with_first_deletion(pod: JsonObject, before: JsonObject | None) -> JsonObject:
    """The pod with the time at which its deletion was first asked for; the kubelet's last word sets it anew."""
    first, now = deleted_at(before) if before else None, deleted_at(pod)
    if before is None or first is None or now is None or first >= now:
        return pod
    asked = {name: before["metadata"].get(name) for name in ("deletionTimestamp", "deletionGracePeriodSeconds")}
    return {**pod, "metadata": {**pod["metadata"], **asked}}


def disrupted_at(pod: JsonObject) -> datetime | None:
    """Return since when the pod's end is not the test's doing: deleted, evicted or lost."""
    condition = _condition(pod, "DisruptionTarget")
    times = [deleted_at(pod), _time(condition.get("lastTransitionTime")) if condition.get("status") == "True" else None]
    return min((time for time in times if time is not None), default=None)


def ended_by_itself(pod: JsonObject, container: str) -> ContainerEnd | None:
    """Return the end of a container that nobody had begun to take away."""
    end, disrupted = container_end(pod, container), disrupted_at(pod)
    if end is None or ((pod.get("status") or {}).get("reason") == "Evicted" and disrupted is None):
        return None
    if disrupted is None or end.finished_at is None:
        return end
    return end if end.finished_at < disrupted else None


def deletion_overdue(pod: JsonObject, now: datetime) -> bool:
    """Say whether the kubelet should long have ended the pod, and has not."""
    deadline = _time(pod["metadata"].get("deletionTimestamp"))
    return deadline is not None and now - deadline > NODE_SILENT_AFTER


def loss_of(pod: JsonObject, now: datetime) -> tuple[Reason, str] | None:
    """Say which infrastructure took the pod away; None: none did, or it was plainly deleted."""
    status = pod.get("status") or {}
    condition = _condition(pod, "DisruptionTarget")
    cause = condition.get("reason", "") if condition.get("status") == "True" else ""
    told = (condition.get("message") or status.get("message") or "")[:_MESSAGE]
    node = (pod.get("spec") or {}).get("nodeName", "its node")
    if cause in _NODE_GONE or status.get("reason") in _NODE_GONE or status.get("phase") == "Unknown":
        return (
            Reason.NODE_LOST,
            f"node {node} went away: {told or cause or status.get('reason') or 'it does not answer'}",
        )
    if cause or status.get("reason") in ("Evicted", "Preempting"):
        return Reason.EVICTED, f"evicted from node {node}: {told or cause or status.get('reason')}"
    if deletion_overdue(pod, now):
        return Reason.NODE_LOST, f"node {node} does not carry out the pod's deletion"
    if status.get("phase") == "Failed" and not any(_statuses(pod)) and status.get("reason"):
        return Reason.EVICTED, f"node {node} did not take the pod: {status['reason']}: {told}"
    return None


def waiting_of(pod: JsonObject, container: str) -> Waiting | None:
    """Say why the test's container does not run yet; None: it runs or has ended."""
    if has_log(pod, container):
        return None
    for status in _statuses(pod):
        if found := _container_waits(status):
            return found
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        told = scheduled.get("message") or "no node takes the pod"
        return Waiting(Reason.UNSCHEDULABLE, f"{told[:_MESSAGE]}; ask for less, or add or free a node")
    return Waiting(Reason.STARTING, "")


def _container_waits(status: JsonObject) -> Waiting | None:
    """Classify one container's waiting state; None: it is on its way."""
    waiting = (status.get("state") or {}).get("waiting") or {}
    why, told = waiting.get("reason", ""), " ".join(waiting.get("message", "").split())[:_MESSAGE]
    name = status.get("name", "")
    if why in _PULL:
        hopeless = why in _NEVER or any(phrase in told.lower() for phrase in _HOPELESS_IMAGE)
        message = f"image {status.get('image', '')} of container {name}: {told or why}"
        return Waiting(Reason.IMAGE_PULL, message, timedelta() if hopeless else PATIENCE)
    if why == "CreateContainerConfigError":
        missing = "secret" in told.lower()
        return Waiting(Reason.SECRET_MISSING if missing else Reason.START_FAILED, f"container {name}: {told}", PATIENCE)
    if why in _CREATE:
        return Waiting(Reason.START_FAILED, f"container {name}: {told or why}", PATIENCE)
    if why == "CrashLoopBackOff":
        last = ((status.get("lastState") or {}).get("terminated") or {}).get("exitCode", "?")
        restarts = int(status.get("restartCount", 0))
        message = f"container {name} ended {restarts} times, last with exit code {last}"
        return Waiting(Reason.START_FAILED, message, timedelta() if restarts >= SERVICE_RESTARTS else None)
    return None


def has_ended(job: JsonObject) -> bool:
    """Whether a Job is over: all of its pods have ended, too."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def trouble_of_job(events: list[JsonObject]) -> Waiting | None:
    """Say from a Job's events why it has no pod; None: they tell of no trouble."""
    failed = [event for event in events if event.get("reason") == "FailedCreate"]
    if not failed:
        return None
    told = max(failed, key=_event_time).get("message", "")[:_MESSAGE]
    if any(phrase in told for phrase in _QUOTA):
        return Waiting(Reason.QUOTA_EXCEEDED, f"{told}; raise the ResourceQuota, or wait until other pods end")
    return Waiting(Reason.JOB_REFUSED, told, PATIENCE)


def trouble_of_pod(events: list[JsonObject]) -> Waiting | None:
    """Say from a pod's events why its containers are not even created; None: they tell of no trouble."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    for event in sorted(warnings, key=_event_time, reverse=True):
        told = " ".join(event.get("message", "").split())[:_MESSAGE]
        if event.get("reason") == "FailedMount" and "not found" in told:
            missing = Reason.SECRET_MISSING if "secret" in told.lower() else Reason.START_FAILED
            return Waiting(missing, told, PATIENCE)
        if event.get("reason") in ("FailedMount", "FailedCreatePodSandBox", "FailedAttachVolume"):
            return Waiting(Reason.STARTING, told)
    return None


def _event_time(event: JsonObject) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
