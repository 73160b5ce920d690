"""Who calls the api on a real cluster: people, sidecars and agents, with tokens that the apiserver has made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dawg_orchestrator.cluster.client import AGENTPOOLS, DEPLOYMENTS, JOBS, PODS, TESTRUNS, Cluster, Resource
from dawg_orchestrator.resources import names

ACCOUNTS = Resource("", "v1", "serviceaccounts")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
PATIENCE = 30.0


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What the condition gives once it gives something; fails after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while not (found := await condition()):
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.1)
    return found


async def account_token(cluster: Cluster, namespace: str, account: str, **spec: Any) -> dict[str, str]:
    """Headers with a token that the apiserver has made for a service account."""
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600, **spec},
    }
    answer = await cluster.create_subresource(ACCOUNTS, namespace, account, "token", body)
    return {"Authorization": f"Bearer {answer['status']['token']}"}


async def create_account(cluster: Cluster, namespace: str, name: str, *verbs: str) -> None:
    """A service account that may do this with TestRuns."""
    await cluster.create(ACCOUNTS, namespace, {"metadata": {"name": name}})
    if not verbs:
        return
    rule = {"apiGroups": [names.GROUP], "resources": ["testruns"], "verbs": list(verbs)}
    await cluster.create(ROLES, namespace, {"metadata": {"name": name}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    await cluster.create(
        BINDINGS, namespace, {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    )  # fmt: skip


async def create_run(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """A TestRun of one task."""
    spec = {"tasks": [{"name": "unit", "run": "true"}]}
    body = {"apiVersion": names.API_VERSION, "kind": "TestRun", "metadata": {"name": name}, "spec": spec}
    return await cluster.create(TESTRUNS, namespace, body)


async def create_job(cluster: Cluster, run: dict[str, Any], index: int) -> dict[str, Any]:
    """A task's Job whose pod is never scheduled; the Job controller makes the pod."""
    labels = {names.RUN: run["metadata"]["uid"], names.INDEX: str(index), names.ATTEMPT: "1", names.POOL: "default"}
    pod = {**_unscheduled(names.TASK_SERVICE_ACCOUNT), "restartPolicy": "Never"}
    name = f"{run['metadata']['name']}-{index}"
    return await cluster.create(
        JOBS,
        run["metadata"]["namespace"],
        {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [_owned_by("TestRun", run)]},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
    )


async def sidecar_token(cluster: Cluster, job: dict[str, Any]) -> dict[str, str]:
    """Headers of the sidecar in the Job's pod."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    return await _pod_token(cluster, namespace, names.TASK_SERVICE_ACCOUNT, f"job-name={name}")


async def agent_token(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Headers of an agent of the pool ``default``, whose pod is never scheduled."""
    kind = {"apiVersion": names.API_VERSION, "kind": "AgentPool", "metadata": {"name": "default"}}
    pool = await cluster.create(AGENTPOOLS, namespace, {**kind, "spec": {"executor": "Job", "maxAgents": 1}})
    labels = {names.POOL: "default", "role": "agent"}
    template = {"metadata": {"labels": labels}, "spec": _unscheduled(names.AGENT_SERVICE_ACCOUNT)}
    await cluster.create(
        DEPLOYMENTS,
        namespace,
        {
            "metadata": {"name": "agents", "ownerReferences": [_owned_by("AgentPool", pool)]},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
    )
    return await _pod_token(cluster, namespace, names.AGENT_SERVICE_ACCOUNT, "role=agent")


def _owned_by(kind: str, owner: dict[str, Any]) -> dict[str, Any]:
    metadata = owner["metadata"]
    return {
        "apiVersion": names.API_VERSION, "kind": kind, "name": metadata["name"], "uid": metadata["uid"],
        "controller": True,
    }  # fmt: skip


def _unscheduled(account: str) -> dict[str, Any]:
    return {
        "schedulerName": "nobody", "serviceAccountName": account, "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": "none"}],
    }  # fmt: skip


async def _pod_token(cluster: Cluster, namespace: str, account: str, selector: str) -> dict[str, str]:
    async def find_pod() -> dict[str, Any] | None:
        pods, _ = await cluster.list(PODS, namespace, {"labelSelector": selector})
        return pods[0] if pods else None

    pod = await until(find_pod)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    return await account_token(cluster, namespace, account, audiences=[names.API_AUDIENCE], boundObjectRef=bound)
