"""The sidecar of a task's pod: it checks out, collects and uploads, with a token for uploads of its own task only."""

from __future__ import annotations

import json

from dawg_orchestrator.cluster.pods import JsonObject, Surroundings, container_security, literal, token_source
from dawg_orchestrator.cluster.request import DAWG_DIR, AttemptRequest
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import AttemptRef, InputFile, SidecarOrder

_UNTIL_ATTENDING = f"until [ -e {DAWG_DIR}/control/attending ]; do sleep 0.02; done"


def has_sidecar(request: AttemptRequest) -> bool:
    """Whether anything is to be checked out, fetched, collected, or told while the pod is held."""
    task = request.cell.task
    collects = task.results.junit or task.results.artifacts or task.results.coverage or task.outputs
    held = task.on_failure is not None and task.on_failure.hold is not None
    return bool(request.git or task.inputs or collects or held or request.handed_on)


def add_sidecar(pod: JsonObject, request: AttemptRequest, around: Surroundings) -> None:
    """The sidecar; before it, where the image may have no shell to wait in, an init container that checks out."""
    order = json.dumps(sidecar_order(request, around).wire(), separators=(",", ":"))
    mounts = [
        {"name": "dawg", "mountPath": DAWG_DIR},
        {"name": "token", "mountPath": "/var/run/secrets/dawg", "readOnly": True},
        {"name": "ca", "mountPath": "/var/run/secrets/dawg-ca", "readOnly": True},
        {"name": "sidecar-tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    volumes = [
        {"name": "token", "projected": {"sources": [token_source("token", names.API_AUDIENCE)]}},
        {"name": "ca", "configMap": {"name": names.CA_CONFIG_MAP}},
        {"name": "sidecar-tmp", "emptyDir": {}},
    ]
    git = request.git
    if git is not None and git.credentials_secret_ref is not None:
        mounts.append({"name": "git", "mountPath": "/dawg-git", "readOnly": True})
        volumes.append({"name": "git", "secret": {"secretName": git.credentials_secret_ref.name, "defaultMode": 0o440}})
    sidecar: JsonObject = {
        "name": "sidecar",
        "image": around.agent_image,
        "imagePullPolicy": around.agent_pull_policy,
        "command": ["python", "-m", "dawg_agent", "sidecar"],
        "restartPolicy": "Always",
        "env": [
            {"name": "DAWG_ORDER", "value": literal(order)},
            {"name": "DAWG_GRACE", "value": f"{pod['terminationGracePeriodSeconds']}s"},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**container_security(), "readOnlyRootFilesystem": True},
        "volumeMounts": mounts,
    }
    if request.cell.task.run is None:
        # Only SIGTERM tells of this test's end: it must not start before the sidecar listens.
        sidecar["lifecycle"] = {"postStart": {"exec": {"command": ["/bin/sh", "-c", _UNTIL_ATTENDING]}}}
    if request.cell.task.run is None and request.uses_workspace:
        checkout = {key: value for key, value in sidecar.items() if key not in ("restartPolicy", "lifecycle")}
        pod["initContainers"].append(
            {**checkout, "name": "checkout", "command": ["python", "-m", "dawg_agent", "checkout"]}
        )
    pod["initContainers"].append(sidecar)
    pod["volumes"] += volumes


def sidecar_order(request: AttemptRequest, around: Surroundings) -> SidecarOrder:
    """What is to be checked out, fetched and collected."""
    task, git = request.cell.task, request.git
    return SidecarOrder(
        attempt=AttemptRef(
            namespace=request.namespace, run=request.run, run_uid=request.run_uid,
            index=request.cell.index, attempt=request.attempt,
        ),
        key=request.cell.key,
        api_url=around.api_url,
        git=git,
        commit=request.commit,
        patch=request.spec.source.patch_ref if request.spec.source is not None else None,
        credentials=git is not None and git.credentials_secret_ref is not None,
        results=task.results,
        outputs=list(task.outputs),
        hand_on=request.handed_on,
        inputs=[
            InputFile(index=index, path=wanted.path)
            for wanted in task.inputs
            for index in request.graph.of_task[wanted.from_]
        ],
        hold=task.on_failure.hold if task.on_failure is not None else None,
    )  # fmt: skip
