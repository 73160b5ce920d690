"""The Job of one attempt, a pure function to a plain manifest.

Its pod runs under the `restricted` pod security standard. A container that runs test code holds no platform
credential.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources as files
from typing import Any

from dawg_orchestrator.cluster.pods import (
    JsonObject,
    Surroundings,
    add_pull_secrets,
    add_scheduling,
    container_security,
    literal,
    owner,
    pod_security,
    resource_amounts,
    secret_variable,
    service_container,
    volume_mount,
    volume_source,
)
from dawg_orchestrator.cluster.request import DAWG_DIR, AttemptRequest
from dawg_orchestrator.cluster.sidecar import add_sidecar, has_sidecar
from dawg_orchestrator.cluster.variables import test_variables
from dawg_orchestrator.resources import names

_SCRIPT_GRACE_SECONDS = 300  # the entry script ends a test within 10 of them; the rest is for the report
_COMMAND_GRACE_SECONDS = 60
# A pod that is deleted while its test starts would get its only TERM before the entry script expects it, and run on
# for the whole grace period. So the kubelet waits for this first, at most ten seconds; in hooks it leaves `$` alone.
_UNTIL_LISTENING = f"n=0; until [ -e {DAWG_DIR}/control/listening ] || [ $n -ge 100 ]; do sleep 0.1; n=$((n + 1)); done"
_ENTRY_SCRIPT = files.files(__package__).joinpath("entry.sh").read_text()


def job_manifest(request: AttemptRequest, around: Surroundings) -> JsonObject:
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


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Stands for what we meant to create."""
    return names.short_hash(json.dumps(spec, sort_keys=True))


def _task_labels(request: AttemptRequest) -> dict[str, str]:
    return {
        names.ROLE: "task",
        names.RUN: request.run_uid,
        names.INDEX: str(request.cell.index),
        names.ATTEMPT: str(request.attempt),
        names.TASK: request.cell.task.name,
        names.POOL: request.pool_name[:63].strip("-."),
    }


def _task_pod(request: AttemptRequest, around: Surroundings) -> JsonObject:
    task, template = request.cell.task, request.pool.job_template
    pod: JsonObject = {
        "restartPolicy": "Never",
        "serviceAccountName": names.TASK_SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _SCRIPT_GRACE_SECONDS if task.run is not None else _COMMAND_GRACE_SECONDS,
        "securityContext": pod_security(),
        "initContainers": [],
        "containers": [_test_container(request, around)],
        "volumes": [{"name": "dawg", "emptyDir": {}}, *(volume_source(volume) for volume in template.volumes)],
    }
    if has_sidecar(request):
        add_sidecar(pod, request, around)
    pod["initContainers"] += [service_container(service) for service in task.services]
    if not pod["initContainers"]:
        del pod["initContainers"]
    add_scheduling(pod, task.scheduling or template.scheduling)
    add_pull_secrets(pod, template)
    return pod


def _test_container(request: AttemptRequest, around: Surroundings) -> JsonObject:
    task, template = request.cell.task, request.pool.job_template
    container: JsonObject = {
        "name": "test",
        "image": task.image or template.image or around.default_task_image,
        "env": _test_env(request),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "dawg", "mountPath": DAWG_DIR},
            *(volume_mount(volume) for volume in template.volumes),
        ],
    }
    if task.run is not None:
        container["command"] = ["/bin/sh", "-c", literal(_ENTRY_SCRIPT), "dawg", literal(task.run)]
        container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", _UNTIL_LISTENING]}}}
    else:
        container["command"] = task.command
        if request.uses_workspace:
            container["workingDir"] = request.working_dir
    if template.image_pull_policy:
        container["imagePullPolicy"] = template.image_pull_policy
    resources = resource_amounts(task.resources or template.resources)
    if resources:
        container["resources"] = resources
    return container


def _test_env(request: AttemptRequest) -> list[JsonObject]:
    task = request.cell.task
    values = test_variables(request)
    if request.uses_workspace and task.run is not None:
        values["DAWG_WAITS_FOR_TREE"] = "1"
    if task.on_failure is not None and task.on_failure.hold is not None:
        values["DAWG_HOLD_SECONDS"] = str(int(task.on_failure.hold.total_seconds()))
    env: list[JsonObject] = [{"name": name, "value": literal(value)} for name, value in values.items()]
    env += [{"name": entry.name, "value": entry.value} for entry in [*request.pool.job_template.env, *task.env]]
    return env + [secret_variable(secret.env, secret.name, secret.key) for secret in task.secrets]
