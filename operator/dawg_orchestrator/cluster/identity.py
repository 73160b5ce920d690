"""Who speaks: from a projected service-account token to the live pod behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.cluster.client import DEPLOYMENTS, PODS, REPLICASETS, TOKEN_REVIEWS, Cluster, Resource
from dawg_orchestrator.errors import Forbidden, NotFound
from dawg_orchestrator.resources import names

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A service account's token bound to a pod."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str


async def review(cluster: Cluster, token: str, audience: str) -> Speaker:
    """Whose token this is; Forbidden when it is not valid for the audience or bound to no pod."""
    body = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }  # fmt: skip
    status = (await cluster.create(TOKEN_REVIEWS, None, body)).get("status") or {}
    if not status.get("authenticated") or audience not in (status.get("audiences") or ()):
        raise Forbidden(f"the token is not valid for {audience}", 401)
    user = status["user"]
    parts = user.get("username", "").split(":")
    extra = user.get("extra") or {}
    if parts[:2] != ["system", "serviceaccount"] or len(parts) != 4 or not extra.get(_POD_UID):
        raise Forbidden("the token is not a pod's", 401)
    return Speaker(parts[2], parts[3], extra[_POD_NAME][0], extra[_POD_UID][0])


async def live_pod(cluster: Cluster, speaker: Speaker) -> dict[str, Any]:
    """The speaker's pod as it is now; Forbidden when it is gone."""
    try:
        pod = await cluster.get(PODS, speaker.namespace, speaker.pod)
    except NotFound:
        raise Forbidden(f"pod {speaker.pod} is gone", 401) from None
    if pod["metadata"]["uid"] != speaker.pod_uid:
        raise Forbidden(f"pod {speaker.pod} is another one by now", 401)
    return pod


async def owning_pool(cluster: Cluster, speaker: Speaker, pod: dict[str, Any]) -> str:
    """The AgentPool whose Deployment made this pod; Forbidden for a pod that only looks like an agent's."""
    if speaker.service_account not in (names.AGENT_SERVICE_ACCOUNT, names.STEPS_SERVICE_ACCOUNT):
        raise Forbidden("only agents may speak here", 403)
    replica_set = await _owner(cluster, REPLICASETS, "ReplicaSet", speaker.namespace, pod)
    deployment = await _owner(cluster, DEPLOYMENTS, "Deployment", speaker.namespace, replica_set)
    for owner in deployment["metadata"].get("ownerReferences") or ():
        if (
            owner.get("controller")
            and owner["kind"] == "AgentPool"
            and owner["apiVersion"].startswith(names.GROUP + "/")
        ):
            return str(owner["name"])
    raise Forbidden(f"pod {speaker.pod} belongs to no AgentPool", 403)


async def _owner(
    cluster: Cluster, resource: Resource, kind: str, namespace: str, child: dict[str, Any]
) -> dict[str, Any]:
    for owner in child["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner["kind"] == kind:
            try:
                parent = await cluster.get(resource, namespace, owner["name"])
            except NotFound:
                break
            if parent["metadata"]["uid"] == owner["uid"]:
                return parent
    raise Forbidden(f"{child['metadata']['name']} has no {kind}", 403)
