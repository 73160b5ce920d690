"""What a plan asks for, done: Jobs, Deployments, status patches, events. Writes only; events last."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlsplit

from dawg_orchestrator.cluster.agents import deployment_manifest
from dawg_orchestrator.cluster.client import (
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    PODS,
    SECRETS,
    Cluster,
    JsonObject,
    Resource,
)
from dawg_orchestrator.cluster.jobs import job_manifest
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.cluster.request import AttemptRequest
from dawg_orchestrator.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound
from dawg_orchestrator.planning.plan import (
    CreateDeployment,
    DeleteDeployment,
    MarkRemovable,
    ScaleDeployment,
)
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_micro_time
from dawg_orchestrator.resources.reasons import Reason

_KINDS = {"testruns": "TestRun", "agentpools": "AgentPool", "schedules": "Schedule", "workflows": "Workflow"}
_OBJECT_NAME = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"


class Refused(ClusterError):
    """The attempt cannot be started, and trying again would change nothing; ``reason`` says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def create_job(cluster: Cluster, request: AttemptRequest, around: Surroundings) -> JsonObject:
    """The Job of an attempt, created or found; Refused when it can never be, Forbidden while we may not create any."""
    await check_secrets(cluster, request)
    body = job_manifest(request, around)
    try:
        return await cluster.create(JOBS, request.namespace, body)
    except Conflict:
        return await _own_job(cluster, request, body)
    except (Invalid, Forbidden) as error:
        if lacks_right(error, JOBS):
            raise  # says nothing about this Job
        raise Refused(Reason.JOB_REFUSED, f"the cluster does not accept the Job: {error}") from error
    except NotFound as error:  # the namespace is going away
        raise Refused(Reason.JOB_REFUSED, str(error)) from error


def lacks_right(error: ClusterError, resource: Resource) -> bool:
    """Whether we may not create any of these at all; the alternative is that a quota or a policy refuses this one.

    An apiserver that has just started denies everything until it has read the roles. Nothing but the authorizer's
    wording tells the two apart: its answer has the same code and reason as that of an admission plugin.
    """
    denied = error.status == 401 or f'cannot create resource "{resource.plural}"' in str(error)
    return denied and isinstance(error, Forbidden)


async def delete_job(cluster: Cluster, namespace: str, name: str, uid: str | None) -> None:
    """Delete a Job in the foreground: it stands until its pod is gone, so that its absence is proof of the end."""
    await cluster.delete(JOBS, namespace, name, uid=uid, propagation="Foreground")


async def write_status(
    cluster: Cluster, resource: Resource, namespace: str, name: str, version: int, status: JsonObject
) -> JsonObject:
    """Put the whole status of one of our objects, only if nobody wrote since; Conflict then. Returns its new metadata.

    Put and not patched: the apiserver ignores all but the status, and need not work out what a patch makes of it.
    """
    body = {
        "apiVersion": names.API_VERSION, "kind": _KINDS[resource.plural], "status": status,
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": str(version)},
    }  # fmt: skip
    written = await cluster.replace_status(resource, namespace, name, body)
    return cast("JsonObject", written["metadata"])


async def change_agents(
    cluster: Cluster,
    namespace: str,
    pool: tuple[str, str, str],
    template: JsonObject,
    action: CreateDeployment | ScaleDeployment | DeleteDeployment | MarkRemovable,
    removable_cost: str,
) -> JsonObject | None:
    """Carry out one step of a pool's scaling; ``pool`` is (name, uid, executor). Returns the Deployment it changed.

    Refused when the cluster will never take the agents that the pool describes.
    """
    match action:
        case CreateDeployment(name, template_hash, replicas):
            body = deployment_manifest(namespace, pool, name, template_hash, template, replicas)
            try:
                return await cluster.create(DEPLOYMENTS, namespace, body)
            except Conflict:
                return await cluster.get(DEPLOYMENTS, namespace, name)
            except (Invalid, Forbidden) as error:
                if lacks_right(error, DEPLOYMENTS):
                    raise
                raise Refused(Reason.AGENTS_REFUSED, f"the cluster does not accept the agents: {error}") from error
        case ScaleDeployment(name, replicas):
            return await cluster.patch(DEPLOYMENTS, namespace, name, {"spec": {"replicas": replicas}})
        case DeleteDeployment(name):
            await cluster.delete(DEPLOYMENTS, namespace, name)
        case MarkRemovable(pod):
            annotations = {"controller.kubernetes.io/pod-deletion-cost": removable_cost}
            try:
                await cluster.patch(PODS, namespace, pod, {"metadata": {"annotations": annotations}})
            except NotFound:
                return None
    return None


async def announce(
    cluster: Cluster,
    resource: Resource,
    about: tuple[str, str, str],
    reason: Reason,
    message: str,
    *,
    warning: bool,
    now: datetime,
) -> None:
    """A Kubernetes Event about an object (namespace, name, uid); losing one is harmless."""
    namespace, name, uid = about
    kind = _KINDS[resource.plural]
    stamp = format_micro_time(now)
    body: dict[str, Any] = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": f"{name[:200]}.{names.short_hash(uid, reason, stamp)}", "namespace": namespace},
        "eventTime": stamp, "reportingController": "dawg.dev/controller", "reportingInstance": "controller",
        "action": reason.value, "reason": reason.value, "type": "Warning" if warning else "Normal",
        "note": message[:1000],
        "regarding": {"apiVersion": names.API_VERSION, "kind": kind, "namespace": namespace, "name": name, "uid": uid},
    }  # fmt: skip
    try:
        await cluster.create(EVENTS, namespace, body)
    except ClusterError:
        return


async def _own_job(cluster: Cluster, request: AttemptRequest, body: JsonObject) -> JsonObject:
    """A Job of that name exists: it is ours only with our run as its owner and the spec we meant."""
    found = await cluster.get(JOBS, request.namespace, request.name)
    metadata = found["metadata"]
    owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or () if owner.get("controller")}
    expected = body["metadata"]["annotations"][names.SPEC_HASH]
    same = (metadata.get("annotations") or {}).get(names.SPEC_HASH) == expected
    if request.run_uid in owners and same:
        if "deletionTimestamp" in metadata:
            raise Conflict(f"Job {request.name} is being deleted; it must be gone first", 409)
        return found
    raise Refused(Reason.NAME_CONFLICT, f"a Job named {request.name} exists and is not this run's; delete or rename it")


async def check_secrets(cluster: Cluster, request: AttemptRequest) -> None:
    """Refused unless owners allow it: a Secret reaches a test by its label, and a git server that its owner named."""
    await check_test_secrets(cluster, request.namespace, {secret.name for secret in request.cell.task.secrets})
    git = request.spec.source.git if request.spec.source is not None else None
    if git is None or git.credentials_secret_ref is None:
        return
    await check_git_secret(cluster, request.namespace, git.credentials_secret_ref.name, git.url)


async def check_git_secret(cluster: Cluster, namespace: str, name: str, url: str) -> None:
    """Refused unless the Secret's owner allows to send it to the address's host."""
    host = git_host(url)
    annotations = (await _secret_metadata(cluster, namespace, name)).get("annotations") or {}
    allowed = [entry.strip().lower() for entry in annotations.get(names.HOSTS, "").split(",") if entry.strip()]
    if host not in allowed:
        remedy = f"its owner allows it with the annotation {names.HOSTS}: {host}"
        raise Refused(Reason.CREDENTIALS_NOT_ALLOWED, f"Secret {name} may not be sent to {host}; {remedy}")


async def check_test_secrets(cluster: Cluster, namespace: str, secrets: Iterable[str]) -> None:
    """Refused when one of these Secrets is missing, or its owner has not allowed tests to see it."""
    await _check_labels(cluster, namespace, secrets, names.FOR_TESTS, "for tests")


async def check_step_secrets(cluster: Cluster, namespace: str, secrets: Iterable[str]) -> None:
    """Refused when one of these Secrets is missing, or its owner has not allowed built-in steps to use it."""
    await _check_labels(cluster, namespace, secrets, names.FOR_STEPS, "for built-in steps")


async def _check_labels(cluster: Cluster, namespace: str, secrets: Iterable[str], label: str, what_for: str) -> None:
    for name in sorted(secrets):
        labels = (await _secret_metadata(cluster, namespace, name)).get("labels") or {}
        if labels.get(label) != "true":
            remedy = f"its owner allows it with the label {label}=true"
            raise Refused(Reason.CREDENTIALS_NOT_ALLOWED, f"Secret {name} is not {what_for}; {remedy}")


async def _secret_metadata(cluster: Cluster, namespace: str, name: str) -> JsonObject:
    if re.fullmatch(_OBJECT_NAME, name) is None:  # as part of a URL it could lead anywhere
        raise Refused(Reason.SECRET_MISSING, f"{name!r:.300} is no name that a Secret can have")
    try:
        found = await cluster.get(SECRETS, namespace, name, metadata_only=True)
    except NotFound:
        raise Refused(Reason.SECRET_MISSING, f"namespace {namespace} has no Secret {name}; create it") from None
    metadata: JsonObject = found["metadata"]
    return metadata


def git_host(url: str) -> str:
    """The host (with a port that is named) that a git URL leads to: https://, ssh:// or user@host:path."""
    if "://" not in url:
        return url.split("@", 1)[-1].split(":", 1)[0].lower()
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Refused(Reason.CREDENTIALS_NOT_ALLOWED, f"{url!r} names no host: {error}") from error
    return f"{host}:{port}" if port is not None else host
