"""What all pods share: the `restricted` pod security standard, tokens, volumes, and who owns them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import ForgeSecret, GitSecret, PodTemplate, Volume
from dawg_orchestrator.resources.task import Readiness, ResourceAmounts, Scheduling, Service

JsonObject = dict[str, Any]

GIT_SECRETS_DIR = "/git-secrets"  # in the agent: a folder for each Secret
FORGE_SECRETS_DIR = "/forge-secrets"  # likewise
_USER = 10001
_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all manifests share: the release's images and addresses."""

    agent_image: str
    agent_pull_policy: str
    default_task_image: str
    api_url: str
    controller_address: str  # host:port of the headless Service
    run_link: str = ""  # where people look at a run: an address with {namespace} and {name}


def owner(kind: str, name: str, uid: str) -> JsonObject:
    """A controlling owner; blockOwnerDeletion would ask for a right that nothing else needs."""
    return {
        "apiVersion": names.API_VERSION, "kind": kind, "name": name, "uid": uid,
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip


def is_owned_by(obj: JsonObject, uid: str) -> bool:
    """Whether an object of this uid is among those that own it."""
    return any(reference.get("uid") == uid for reference in obj["metadata"].get("ownerReferences") or ())


def token_source(path: str, audience: str) -> JsonObject:
    """A projected token of the pod's service account, for one audience."""
    return {"serviceAccountToken": {"path": path, "audience": audience, "expirationSeconds": _TOKEN_SECONDS}}


def literal(text: str) -> str:
    """Text that Kubernetes leaves alone: in commands and variables it reads ``$(NAME)``, and makes ``$`` of ``$$``."""
    return text.replace("$", "$$")


def pod_security() -> JsonObject:
    """Nobody special, and no way to become so."""
    return {
        "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip


def container_security() -> JsonObject:
    """What the standard asks of each container."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def resource_amounts(amounts: ResourceAmounts | None) -> JsonObject:
    """Requests and limits, those that are set."""
    if amounts is None:
        return {}
    return {key: value for key, value in (("requests", amounts.requests), ("limits", amounts.limits)) if value}


def volume_source(volume: Volume) -> JsonObject:
    """A volume of a pool's template; the prefix keeps its name apart from ours."""
    source = {"emptyDir": volume.empty_dir, "configMap": volume.config_map, "ephemeral": volume.ephemeral}
    return {"name": _volume_name(volume), **{key: value for key, value in source.items() if value is not None}}


def _volume_name(volume: Volume) -> str:
    return f"pool-{volume.name}"[:63].rstrip("-")


def volume_mount(volume: Volume) -> JsonObject:
    """Where it is mounted."""
    return {"name": _volume_name(volume), "mountPath": volume.mount_path, "readOnly": volume.read_only}


def add_scheduling(pod: JsonObject, scheduling: Scheduling | None) -> None:
    """Where the pod may run."""
    if scheduling is None:
        return
    if scheduling.node_selector:
        pod["nodeSelector"] = scheduling.node_selector
    if scheduling.tolerations:
        pod["tolerations"] = [toleration.wire() for toleration in scheduling.tolerations]


def add_pull_secrets(pod: JsonObject, template: PodTemplate) -> None:
    """How its images are pulled."""
    if template.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret.name} for secret in template.image_pull_secrets]


def secret_variable(variable: str, secret: str, key: str) -> JsonObject:
    """A variable whose value is one key of a Secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def service_container(service: Service) -> JsonObject:
    """A container beside the test, started before it and ended after it."""
    container: JsonObject = {
        "name": f"service-{service.name}"[:63].rstrip("-"),
        "image": service.image,
        "restartPolicy": "Always",
        "env": [{"name": entry.name, "value": entry.value} for entry in service.env],
        "securityContext": container_security(),
    }
    if service.command:
        container["command"] = service.command
    if service.args:
        container["args"] = service.args
    if service.resources is not None:
        container["resources"] = resource_amounts(service.resources)
    if service.readiness is not None:
        container["startupProbe"] = _probe(service.readiness)
    return container


def _probe(readiness: Readiness) -> JsonObject:
    check: JsonObject
    if readiness.tcp is not None:
        check = {"tcpSocket": {"port": readiness.tcp}}
    elif readiness.http is not None:
        check = {"httpGet": {"path": readiness.http.path, "port": readiness.http.port}}
    else:
        check = {"exec": {"command": readiness.exec or []}}
    return {**check, "periodSeconds": 1, "failureThreshold": max(1, int(readiness.timeout.total_seconds()))}


def hold_git_secrets(pod: JsonObject, secrets: Iterable[GitSecret]) -> None:
    """Let the agent of the pod, and nobody else in it, see these Secrets, each as a folder."""
    _hold(pod, "git", GIT_SECRETS_DIR, (secret.name for secret in secrets))


def hold_forge_secrets(pod: JsonObject, secrets: Iterable[ForgeSecret]) -> None:
    """Likewise."""
    _hold(pod, "forge", FORGE_SECRETS_DIR, (secret.name for secret in secrets))


def _hold(pod: JsonObject, kind: str, folder: str, secrets: Iterable[str]) -> None:
    """One that is missing keeps no agent from starting: whoever names it is told."""
    for number, secret in enumerate(secrets):
        volume = {"secretName": secret, "defaultMode": 0o440, "optional": True}
        pod["volumes"].append({"name": f"{kind}-{number}", "secret": volume})
        mount = {"name": f"{kind}-{number}", "mountPath": f"{folder}/{secret}", "readOnly": True}
        pod["containers"][0]["volumeMounts"].append(mount)
