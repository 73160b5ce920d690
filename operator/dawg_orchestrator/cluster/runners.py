"""The slots of a warm agent's pod: per slot a container of the pool's image in which our runner waits for tasks.

agent      tokens, git Secrets, cache        sees each slot's files, read-only
runner-N   the pool's image, no credential   its own user, processes, memory and folders: a fault ends one slot
"""

from __future__ import annotations

from dawg_orchestrator.cluster.pods import (
    JsonObject,
    Surroundings,
    container_security,
    hold_git_secrets,
    resource_amounts,
    secret_variable,
    service_container,
    volume_mount,
    volume_source,
)
from dawg_orchestrator.cluster.request import DAWG_DIR
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, WarmSpec

SLOTS_DIR = "/slots"  # in the agent: <slot>/files is the slot's DAWG_DIR, <slot>/door holds the socket
CACHE_DIR = "/cache"
_RUNNER_DIR = "/dawg-runner"
_DOOR_DIR = "/run/dawg"
_FIRST_USER = 20001
_SHARED_MEMORY = "64Mi"  # what containers have by default
_SCRATCH = "256Mi"
_LEAVING_SECONDS = 60
_RESOURCES: JsonObject = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}}
_KUBE_TOKEN: JsonObject = {
    "name": "kube-token",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    },
}


def add_runners(pod: JsonObject, spec: AgentPoolSpec, around: Surroundings) -> None:
    """Make an agent's pod one that runs tasks itself."""
    warm = spec.warm or WarmSpec()
    template = spec.job_template
    # A token that Kubernetes mounts by itself is mounted in every container; the agent gets one where only it sees it.
    pod["automountServiceAccountToken"] = False
    # Deleting the pod ends no test: the agent takes no more, and its runners stay for as long as it does.
    pod["terminationGracePeriodSeconds"] = int(spec.max_task_duration.total_seconds()) + _LEAVING_SECONDS
    pod["initContainers"] = [_copy_runner(around), *(service_container(service) for service in warm.services)]
    pod["containers"] += [_runner(slot, spec, warm, around) for slot in range(spec.slots)]
    pod["volumes"] += [
        _KUBE_TOKEN,
        {"name": "runner", "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": "cache", "emptyDir": {"sizeLimit": "8Gi"}},
        *(volume for slot in range(spec.slots) for volume in _slot_volumes(slot, warm)),
        *(volume_source(volume) for volume in template.volumes),
    ]  # fmt: skip
    _equip_agent(pod, spec)
    hold_git_secrets(pod, warm.git_secrets)


def _equip_agent(pod: JsonObject, spec: AgentPoolSpec) -> None:
    agent = pod["containers"][0]
    leave_within = f"{pod['terminationGracePeriodSeconds'] - _LEAVING_SECONDS // 2}s"
    agent["env"] += [
        {"name": "DAWG_EXECUTOR", "value": "Process"},
        {"name": "DAWG_LEAVE_WITHIN", "value": leave_within},
        {"name": "DAWG_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    agent["volumeMounts"] += [
        {"name": "kube-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True},
        {"name": "cache", "mountPath": CACHE_DIR},
        *(mount for slot in range(spec.slots) for mount in _agents_mounts(slot)),
    ]  # fmt: skip


def _copy_runner(around: Surroundings) -> JsonObject:
    """The runner is one file that any python3 understands; it comes from the agent's image."""
    script = f"import dawg_agent.runner as r, shutil; shutil.copy(r.__file__, '{_RUNNER_DIR}/runner.py')"
    return {
        "name": "runner-file",
        "image": around.agent_image,
        "imagePullPolicy": around.agent_pull_policy,
        "command": ["python", "-c", script],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {**container_security(), "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "runner", "mountPath": _RUNNER_DIR}],
    }


def _runner(slot: int, spec: AgentPoolSpec, warm: WarmSpec, around: Surroundings) -> JsonObject:
    template = spec.job_template
    command = ["python3", "-I", f"{_RUNNER_DIR}/runner.py", "--socket", f"{_DOOR_DIR}/agent.sock",
               "--processes", str(warm.processes)]  # fmt: skip
    for module in warm.preload:
        command += ["--preload", module]
    env: list[JsonObject] = [{"name": entry.name, "value": entry.value} for entry in template.env]
    env += [secret_variable(secret.env, secret.name, secret.key) for secret in warm.secrets]
    container: JsonObject = {
        "name": f"runner-{slot}",
        "image": template.image or around.default_task_image,
        "command": command,
        "env": env,
        "resources": resource_amounts(template.resources) or _RESOURCES,
        "securityContext": {
            **container_security(),
            "readOnlyRootFilesystem": True,
            "runAsUser": _FIRST_USER + slot,
            "runAsGroup": _FIRST_USER + slot,
        },
        "volumeMounts": [
            {"name": "runner", "mountPath": _RUNNER_DIR, "readOnly": True},
            {"name": f"door-{slot}", "mountPath": _DOOR_DIR, "readOnly": True},  # a test makes no door of its own
            {"name": f"files-{slot}", "mountPath": DAWG_DIR},
            {"name": f"tmp-{slot}", "mountPath": "/tmp"},  # noqa: S108
            {"name": f"shm-{slot}", "mountPath": "/dev/shm"},  # noqa: S108
            *(volume_mount(volume) for volume in template.volumes),
        ],
    }
    if template.image_pull_policy:
        container["imagePullPolicy"] = template.image_pull_policy
    return container


def _slot_volumes(slot: int, warm: WarmSpec) -> list[JsonObject]:
    """In memory, since only there a full volume hurts nobody but who filled it: the kubelet evicts whole pods."""
    sizes = {"files": warm.workspace, "tmp": _SCRATCH, "shm": _SHARED_MEMORY, "door": "1Mi"}
    return [
        {"name": f"{name}-{slot}", "emptyDir": {"medium": "Memory", "sizeLimit": size}} for name, size in sizes.items()
    ]


def _agents_mounts(slot: int) -> list[JsonObject]:
    return [
        {"name": f"files-{slot}", "mountPath": f"{SLOTS_DIR}/{slot}/files", "readOnly": True},
        {"name": f"door-{slot}", "mountPath": f"{SLOTS_DIR}/{slot}/door"},
    ]
