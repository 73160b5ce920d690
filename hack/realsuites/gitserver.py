"""A git server in the cluster, in a namespace of its own, with the projects' repositories."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localcluster import commands, kubectl, processes
from localcluster.errors import ClusterError
from localcluster.images import BuiltImage
from localcluster.progress import step
from realsuites.outside import LAST_LINES

NAME = "git"
PORT = 8080
_FOLDER = "/repositories"
_READY_SECONDS = 120
_TIDY_SECONDS = 60.0
_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@contextmanager
def serving(repositories: Path, image: BuiltImage, namespace: str, *, keep: bool) -> Iterator[str]:
    """Serve the bare repositories of a folder; yields the address that a repository's name is appended to."""
    try:
        with step(f"start a git server in namespace {namespace}"):
            kubectl.apply(_namespace(namespace), _service(namespace))
            kubectl.apply(_deployment(namespace, image))
            rollout = ["rollout", "status", f"deployment/{NAME}", f"--timeout={_READY_SECONDS}s"]
            kubectl.run("--namespace", namespace, *rollout)
            _import(repositories, namespace)
        yield f"http://{NAME}.{namespace}.svc:{PORT}"
    finally:
        if not keep:
            insist("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def insist(*words: str) -> str:
    """Tidy up even while the apiserver restarts."""
    answers: list[str] = []

    def succeeds() -> bool:
        try:
            answers.append(kubectl.run(*words))
        except ClusterError:
            return False
        return True

    processes.wait_for(f"kubectl {words[0]}", succeeds, [], _TIDY_SECONDS, interval=1.0)
    return answers[-1]


def _import(repositories: Path, namespace: str) -> None:
    with tempfile.TemporaryFile() as archive:
        # Not the folder itself: its mode and times belong to the volume.
        names = sorted(path.name for path in repositories.iterdir())
        subprocess.run(["tar", "--create", "--directory", repositories, *names], stdout=archive, check=True)
        archive.seek(0)
        unpack = ["exec", "--stdin", f"deployment/{NAME}", "--", "tar", "--extract", "--directory", _FOLDER]
        command = kubectl.command("--namespace", namespace, *unpack)
        done = subprocess.run(
            command, env=commands.environment(), stdin=archive, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise commands.failure(command, done.returncode, (done.stdout + done.stderr).splitlines()[-LAST_LINES:])


def _namespace(name: str) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _service(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT, "targetPort": PORT}]},
    }


def _deployment(namespace: str, image: BuiltImage) -> dict[str, Any]:
    container = {
        "name": NAME,
        "image": image.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/usr/local/lib/git_server.py", _FOLDER, str(PORT)],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": _SECURITY,
        "volumeMounts": [
            {"name": "repositories", "mountPath": _FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _POD_SECURITY,
        "containers": [container],
        "volumes": [{"name": "repositories", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod},
        },
    }
