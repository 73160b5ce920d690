"""A pool's agents: the template of their pods, and the Deployment that makes them."""

from __future__ import annotations

from datetime import timedelta

from dawg_orchestrator.cluster.pods import (
    JsonObject,
    Surroundings,
    add_pull_secrets,
    add_scheduling,
    container_security,
    hold_forge_secrets,
    hold_git_secrets,
    owner,
    pod_security,
    resource_amounts,
    secret_variable,
    token_source,
    volume_mount,
    volume_source,
)
from dawg_orchestrator.cluster.runners import add_runners
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, BuiltinSpec

_AGENT_GRACE_SECONDS = 30  # another agent adopts its Jobs
_LEAVING_SECONDS = 60  # beyond the longest task, to hand over its result
MIRRORS_DIR = "/mirrors"  # of repositories that are watched
_MIRRORS = "4Gi"


def agents_template(pool_name: str, spec: AgentPoolSpec, around: Surroundings) -> JsonObject:
    """The pods of a pool's agents; its hash decides which Deployment they belong to."""
    tokens = [
        token_source("controller-token", names.CONTROLLER_AUDIENCE),
        token_source("api-token", names.API_AUDIENCE),
    ]
    volumes = [
        {"name": "tokens", "projected": {"sources": tokens}},
        {"name": "ca", "configMap": {"name": names.CA_CONFIG_MAP}},
        {"name": "tmp", "emptyDir": {}},
    ]  # fmt: skip
    container: JsonObject = {
        "name": "agent",
        "image": spec.template.image or around.agent_image,
        "imagePullPolicy": spec.template.image_pull_policy or around.agent_pull_policy,
        "command": ["python", "-m", "dawg_agent", "agent"],
        "env": _agent_env(pool_name, spec, around),
        "ports": [{"name": "health", "containerPort": 8081}],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 2, "failureThreshold": 1},
        "resources": resource_amounts(spec.template.resources)
        or {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**container_security(), "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "tokens", "mountPath": "/var/run/secrets/dawg", "readOnly": True},
            {"name": "ca", "mountPath": "/var/run/secrets/dawg-ca", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *(volume_mount(volume) for volume in spec.template.volumes),
        ],
    }
    pod: JsonObject = {
        "serviceAccountName": names.AGENT_SERVICE_ACCOUNT,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _AGENT_GRACE_SECONDS,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [*volumes, *(volume_source(volume) for volume in spec.template.volumes)],
    }
    add_scheduling(pod, spec.template.scheduling)
    add_pull_secrets(pod, spec.template)
    if spec.executor == "Process":
        add_runners(pod, spec, around)
    if spec.executor == "Builtin":
        _hold_secrets(pod, spec.builtin or BuiltinSpec(), spec.max_task_duration)
    return pod


def _hold_secrets(pod: JsonObject, builtin: BuiltinSpec, longest: timedelta) -> None:
    """Make an agent's pod one that carries out built-in steps and watches: their rights, and what they may name."""
    pod["serviceAccountName"] = names.STEPS_SERVICE_ACCOUNT
    # Nobody adopts a step: whoever has begun it ends it.
    pod["terminationGracePeriodSeconds"] = int(longest.total_seconds()) + _LEAVING_SECONDS
    pod["containers"][0]["env"] += [
        *(secret_variable(secret.env, secret.name, secret.key) for secret in builtin.secrets),
        {"name": "DAWG_EXECUTOR", "value": "Builtin"},
        {"name": "DAWG_STEP_SECRETS", "value": ",".join(secret.env for secret in builtin.secrets)},
        {"name": "DAWG_LEAVE_WITHIN", "value": f"{int(longest.total_seconds()) + _LEAVING_SECONDS // 2}s"},
    ]
    pod["volumes"].append({"name": "mirrors", "emptyDir": {"sizeLimit": _MIRRORS}})
    pod["containers"][0]["volumeMounts"].append({"name": "mirrors", "mountPath": MIRRORS_DIR})
    hold_git_secrets(pod, builtin.git_secrets)
    hold_forge_secrets(pod, builtin.forge_secrets)


def deployment_manifest(
    namespace: str, pool: tuple[str, str, str], name: str, template_hash: str, pod: JsonObject, replicas: int
) -> JsonObject:
    """The Deployment of a pool's agents for one template; ``pool`` is name, uid and executor."""
    pool_name, pool_uid, executor = pool
    labels = {
        names.ROLE: "agent", names.POOL: pool_name[:63].strip("-."), names.EXECUTOR: executor,
        names.TEMPLATE: template_hash,
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner("AgentPool", pool_name, pool_uid)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
                },
                "spec": pod,
            },
        },
    }


def _agent_env(pool_name: str, spec: AgentPoolSpec, around: Surroundings) -> list[JsonObject]:
    values = {
        "DAWG_POOL": pool_name,
        "DAWG_SLOTS": str(spec.slots),
        "DAWG_CONTROLLER": around.controller_address,
        "DAWG_API_URL": around.api_url,
    }
    env: list[JsonObject] = [{"name": name, "value": value} for name, value in values.items()]
    fields = {"DAWG_NAMESPACE": "metadata.namespace", "DAWG_POD": "metadata.name"}
    env += [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    return env + [{"name": entry.name, "value": entry.value} for entry in spec.template.env]
