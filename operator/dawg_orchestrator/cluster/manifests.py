"""What is created for a task and for a pool: pure functions to plain manifests.

Everything runs under the `restricted` pod security standard. A container that runs test code holds no platform
credential; the sidecar's token is good for uploads of its own task only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources as files
from typing import Any

from dawg_orchestrator.planning.graph import Cell, Graph, parameter_variable, variable
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, PodTemplate, Volume
from dawg_orchestrator.resources.protocol import AttemptRef, InputFile, SidecarOrder
from dawg_orchestrator.resources.task import Readiness, ResourceAmounts, Scheduling, Service
from dawg_orchestrator.resources.testrun import GitSource, TestRunSpec

JsonObject = dict[str, Any]

DAWG_DIR = "/dawg"
WORKSPACE = f"{DAWG_DIR}/workspace"
_USER = 10001
_SCRIPT_GRACE_SECONDS = 300  # the entry script ends a test within 10 of them; the rest is for the report
_COMMAND_GRACE_SECONDS = 60
_AGENT_GRACE_SECONDS = 30  # another agent adopts its Jobs
_TOKEN_SECONDS = 3600
_UNTIL_ATTENDING = f"until [ -e {DAWG_DIR}/control/attending ]; do sleep 0.02; done"
_ENTRY_SCRIPT = files.files(__package__).joinpath("entry.sh").read_text()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all manifests share: the release's images and addresses."""

    agent_image: str
    agent_pull_policy: str
    default_task_image: str
    api_url: str
    controller_address: str  # host:port of the headless Service


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One attempt of one task, with what is known of its run by now."""

    namespace: str
    run: str
    run_uid: str
    spec: TestRunSpec
    graph: Graph
    cell: Cell
    attempt: int
    pool_name: str
    pool: AgentPoolSpec
    commit: str | None
    outputs: Mapping[int, Mapping[str, str]]

    @property
    def name(self) -> str:
        """The Job's name, by content."""
        return names.child_name(self.run, self.run_uid, self.cell.key, self.attempt)


def job_manifest(request: JobRequest, around: Surroundings) -> JsonObject:
    """The Job of one attempt. Its pod never restarts, is replaced only when it has failed, and has no API token."""
    labels = _task_labels(request)
    annotations = {names.RUN_NAME: request.run, names.KEY: request.cell.key}
    pod = {"metadata": {"labels": labels, "annotations": annotations}, "spec": _task_pod(request, around)}
    spec: JsonObject = {"backoffLimit": 0, "completions": 1, "parallelism": 1,
                        "podReplacementPolicy": "Failed", "template": pod}  # fmt: skip
    kueue = request.pool.kueue
    job_labels = dict(labels)
    if kueue is not None:
        spec["suspend"] = True
        job_labels["kueue.x-k8s.io/queue-name"] = kueue.queue_name
        if kueue.priority_class:
            job_labels["kueue.x-k8s.io/priority-class"] = kueue.priority_class
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": request.name,
            "namespace": request.namespace,
            "labels": job_labels,
            "annotations": {**annotations, names.SPEC_HASH: spec_hash(spec)},
            "ownerReferences": [owner("TestRun", request.run, request.run_uid)],
        },
        "spec": spec,
    }


def has_sidecar(request: JobRequest) -> bool:
    """Whether anything is to be checked out, fetched, collected, or told while the pod is held."""
    task = request.cell.task
    collects = task.results.junit or task.results.artifacts or task.results.coverage or task.outputs
    held = task.on_failure is not None and task.on_failure.hold is not None
    return bool(_git(request) or task.inputs or collects or held or _handed_on(request))


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Stands for what we meant to create."""
    return names.short_hash(json.dumps(spec, sort_keys=True))


def owner(kind: str, name: str, uid: str) -> JsonObject:
    """A controlling owner; blockOwnerDeletion would ask for a right that nothing else needs."""
    return {
        "apiVersion": names.API_VERSION, "kind": kind, "name": name, "uid": uid,
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip


def agents_template(pool_name: str, spec: AgentPoolSpec, around: Surroundings) -> JsonObject:
    """The pods of a pool's agents; its hash decides which Deployment they belong to."""
    volumes = [
        {"name": "tokens", "projected": {"sources": [
            _token("controller-token", names.CONTROLLER_AUDIENCE), _token("api-token", names.API_AUDIENCE)]}},
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
        "resources": _resources(spec.template.resources)
        or {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**_container_security(), "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "tokens", "mountPath": "/var/run/secrets/dawg", "readOnly": True},
            {"name": "ca", "mountPath": "/var/run/secrets/dawg-ca", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *(_mount(volume) for volume in spec.template.volumes),
        ],
    }
    pod: JsonObject = {
        "serviceAccountName": names.AGENT_SERVICE_ACCOUNT,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _AGENT_GRACE_SECONDS,
        "securityContext": _pod_security(),
        "containers": [container],
        "volumes": [*volumes, *(_volume(volume) for volume in spec.template.volumes)],
    }
    _add_scheduling(pod, spec.template.scheduling)
    _add_pull_secrets(pod, spec.template)
    return pod


def deployment_manifest(
    namespace: str, pool_name: str, pool_uid: str, name: str, template_hash: str, pod: JsonObject, replicas: int
) -> JsonObject:
    """The Deployment of a pool's agents for one template."""
    labels = {names.ROLE: "agent", names.POOL: pool_name[:63].strip("-."), names.TEMPLATE: template_hash}
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


def _task_labels(request: JobRequest) -> dict[str, str]:
    return {
        names.ROLE: "task",
        names.RUN: request.run_uid,
        names.INDEX: str(request.cell.index),
        names.ATTEMPT: str(request.attempt),
        names.TASK: request.cell.task.name,
        names.POOL: request.pool_name[:63].strip("-."),
    }


def _task_pod(request: JobRequest, around: Surroundings) -> JsonObject:
    task, template = request.cell.task, request.pool.job_template
    pod: JsonObject = {
        "restartPolicy": "Never",
        "serviceAccountName": names.TASK_SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _SCRIPT_GRACE_SECONDS if task.run is not None else _COMMAND_GRACE_SECONDS,
        "securityContext": _pod_security(),
        "initContainers": [],
        "containers": [_test_container(request, around)],
        "volumes": [{"name": "dawg", "emptyDir": {}}, *(_volume(volume) for volume in template.volumes)],
    }
    if has_sidecar(request):
        _add_sidecar(pod, request, around)
    pod["initContainers"] += [_service_container(service) for service in task.services]
    if not pod["initContainers"]:
        del pod["initContainers"]
    _add_scheduling(pod, task.scheduling or template.scheduling)
    _add_pull_secrets(pod, template)
    return pod


def _test_container(request: JobRequest, around: Surroundings) -> JsonObject:
    task, template = request.cell.task, request.pool.job_template
    container: JsonObject = {
        "name": "test",
        "image": task.image or template.image or around.default_task_image,
        "env": _test_env(request),
        "securityContext": _container_security(),
        "volumeMounts": [
            {"name": "dawg", "mountPath": DAWG_DIR},
            *(_mount(volume) for volume in template.volumes),
        ],
    }
    if task.run is not None:
        container["command"] = ["/bin/sh", "-c", _ENTRY_SCRIPT, "dawg", task.run]
    else:
        container["command"] = task.command
        if _uses_workspace(request):
            container["workingDir"] = _working_dir(request)
    if template.image_pull_policy:
        container["imagePullPolicy"] = template.image_pull_policy
    resources = _resources(task.resources or template.resources)
    if resources:
        container["resources"] = resources
    return container


def _test_env(request: JobRequest) -> list[JsonObject]:
    task, cell = request.cell.task, request.cell
    values = {
        "DAWG_RUN": request.run,
        "DAWG_NAMESPACE": request.namespace,
        "DAWG_TASK": task.name,
        "DAWG_ATTEMPT": str(request.attempt),
        "DAWG_RESULTS": f"{DAWG_DIR}/results",
        "DAWG_OUTPUTS": f"{DAWG_DIR}/outputs",
    }
    if request.commit:
        values["DAWG_COMMIT"] = request.commit
    if _uses_workspace(request):
        values["DAWG_WORKSPACE"] = _working_dir(request)
    if has_sidecar(request) and task.run is not None:
        values["DAWG_WAITS_FOR_TREE"] = "1" if _uses_workspace(request) else ""
    if cell.shard is not None:
        values |= {"DAWG_SHARD_INDEX": str(cell.shard), "DAWG_SHARD_TOTAL": str(cell.shards)}
    values |= {f"DAWG_MATRIX_{variable(name)}": value for name, value in cell.values}
    values |= {parameter_variable(name): value for name, value in request.spec.parameters.items()}
    values |= _output_variables(request)
    if task.on_failure is not None and task.on_failure.hold is not None:
        values["DAWG_HOLD_SECONDS"] = str(int(task.on_failure.hold.total_seconds()))
    env: list[JsonObject] = [{"name": name, "value": value} for name, value in values.items() if value]
    env += [{"name": entry.name, "value": entry.value} for entry in [*request.pool.job_template.env, *task.env]]
    env += [
        {"name": secret.env, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
        for secret in task.secrets
    ]
    return env


def _output_variables(request: JobRequest) -> dict[str, str]:
    """DAWG_OUTPUT_<TASK>_<NAME> of every task that this one needs."""
    found = {}
    for need in request.cell.task.needs:
        for index in request.graph.of_task[need]:
            for name, value in request.outputs.get(index, {}).items():
                found[f"DAWG_OUTPUT_{variable(need)}_{variable(name)}"] = value
    return found


def _git(request: JobRequest) -> GitSource | None:
    return request.spec.source.git if request.spec.source is not None else None


def _uses_workspace(request: JobRequest) -> bool:
    return _git(request) is not None or bool(request.cell.task.inputs)


def _working_dir(request: JobRequest) -> str:
    git = _git(request)
    return f"{WORKSPACE}/{git.sub_path}" if git is not None and git.sub_path else WORKSPACE


def _handed_on(request: JobRequest) -> list[str]:
    """Paths of this task that others take as inputs."""
    mine = request.cell.task.name
    return sorted({
        wanted.path for cell in request.graph.cells for wanted in cell.task.inputs if wanted.from_ == mine
    })  # fmt: skip


def _sidecar_order(request: JobRequest, around: Surroundings) -> SidecarOrder:
    task, git = request.cell.task, _git(request)
    return SidecarOrder(
        attempt=AttemptRef(
            namespace=request.namespace, run=request.run, run_uid=request.run_uid,
            index=request.cell.index, attempt=request.attempt,
        ),
        key=request.cell.key,
        api_url=around.api_url,
        git=git,
        commit=request.commit,
        credentials=git is not None and git.credentials_secret_ref is not None,
        results=task.results,
        outputs=list(task.outputs),
        hand_on=_handed_on(request),
        inputs=[
            InputFile(index=index, path=wanted.path)
            for wanted in task.inputs
            for index in request.graph.of_task[wanted.from_]
        ],
        hold=task.on_failure.hold if task.on_failure is not None else None,
    )  # fmt: skip


def _add_sidecar(pod: JsonObject, request: JobRequest, around: Surroundings) -> None:
    """The sidecar; before it, where the image may have no shell to wait in, an init container that checks out."""
    order = json.dumps(_sidecar_order(request, around).wire(), separators=(",", ":"))
    mounts = [
        {"name": "dawg", "mountPath": DAWG_DIR},
        {"name": "token", "mountPath": "/var/run/secrets/dawg", "readOnly": True},
        {"name": "ca", "mountPath": "/var/run/secrets/dawg-ca", "readOnly": True},
        {"name": "sidecar-tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    volumes = [
        {"name": "token", "projected": {"sources": [_token("token", names.API_AUDIENCE)]}},
        {"name": "ca", "configMap": {"name": names.CA_CONFIG_MAP}},
        {"name": "sidecar-tmp", "emptyDir": {}},
    ]
    git = _git(request)
    if git is not None and git.credentials_secret_ref is not None:
        mounts.append({"name": "git", "mountPath": "/dawg-git", "readOnly": True})
        volumes.append({"name": "git", "secret": {"secretName": git.credentials_secret_ref.name, "defaultMode": 0o440}})
    sidecar: JsonObject = {
        "name": "sidecar",
        "image": around.agent_image,
        "imagePullPolicy": around.agent_pull_policy,
        "command": ["python", "-m", "dawg_agent", "sidecar"],
        "restartPolicy": "Always",
        "env": [{"name": "DAWG_ORDER", "value": order}],
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**_container_security(), "readOnlyRootFilesystem": True},
        "volumeMounts": mounts,
    }
    if request.cell.task.run is None:
        # Only SIGTERM tells of this test's end: it must not start before the sidecar listens.
        sidecar["lifecycle"] = {"postStart": {"exec": {"command": ["/bin/sh", "-c", _UNTIL_ATTENDING]}}}
    if request.cell.task.run is None and _uses_workspace(request):
        checkout = {key: value for key, value in sidecar.items() if key not in ("restartPolicy", "lifecycle")}
        pod["initContainers"].append(
            {**checkout, "name": "checkout", "command": ["python", "-m", "dawg_agent", "checkout"]}
        )
    pod["initContainers"].append(sidecar)
    pod["volumes"] += volumes


def _service_container(service: Service) -> JsonObject:
    container: JsonObject = {
        "name": f"service-{service.name}"[:63].rstrip("-"),
        "image": service.image,
        "restartPolicy": "Always",
        "env": [{"name": entry.name, "value": entry.value} for entry in service.env],
        "securityContext": _container_security(),
    }
    if service.command:
        container["command"] = service.command
    if service.args:
        container["args"] = service.args
    if service.resources is not None:
        container["resources"] = _resources(service.resources)
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


def _token(path: str, audience: str) -> JsonObject:
    return {"serviceAccountToken": {"path": path, "audience": audience, "expirationSeconds": _TOKEN_SECONDS}}


def _pod_security() -> JsonObject:
    return {
        "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip


def _container_security() -> JsonObject:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _resources(amounts: ResourceAmounts | None) -> JsonObject:
    if amounts is None:
        return {}
    return {key: value for key, value in (("requests", amounts.requests), ("limits", amounts.limits)) if value}


def _volume(volume: Volume) -> JsonObject:
    source = {"emptyDir": volume.empty_dir, "configMap": volume.config_map, "ephemeral": volume.ephemeral}
    return {"name": volume.name, **{key: value for key, value in source.items() if value is not None}}


def _mount(volume: Volume) -> JsonObject:
    return {"name": volume.name, "mountPath": volume.mount_path, "readOnly": volume.read_only}


def _add_scheduling(pod: JsonObject, scheduling: Scheduling | None) -> None:
    if scheduling is None:
        return
    if scheduling.node_selector:
        pod["nodeSelector"] = scheduling.node_selector
    if scheduling.tolerations:
        pod["tolerations"] = [toleration.wire() for toleration in scheduling.tolerations]


def _add_pull_secrets(pod: JsonObject, template: PodTemplate) -> None:
    if template.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret.name} for secret in template.image_pull_secrets]
