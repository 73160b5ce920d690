"""A git server in the cluster, in a namespace of its own, with the repositories of a folder."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster import commands, kubectl, processes
from localcluster.errors import ClusterError
from localcluster.progress import step
from realsuites.outside import LAST_LINES

NAME = "git"
FOLDER = "/repositories"
KEYS = "/keys"  # where the doors find what only the server may know
PROGRAM = ("python", "/usr/local/lib/git_server.py", FOLDER)
_READY_SECONDS = 120
_TIDY_SECONDS = 60.0
_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
_POD_SECURITY = {
    "runAsNonRoot": True,
    # The user `git` of the test image: ssh lets nobody in as a user that /etc/passwd does not know.
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Door:
    """A way to the repositories: a container that listens, and the port at which the server's name leads to it."""

    name: str
    port: int
    listens: int
    command: Sequence[str]


PLAIN = Door("http", 80, 8080, (*PROGRAM, "8080"))


@contextmanager
def serving(
    repositories: Path,
    image: str,
    namespace: str,
    doors: Sequence[Door] = (PLAIN,),
    secret: Mapping[str, str] | None = None,
    *,
    keep: bool = False,
) -> Iterator[str]:
    """Serve the bare repositories of a folder; yields the server's name, which is its host's."""
    try:
        with step(f"start a git server in namespace {namespace}"):
            kubectl.apply(_namespace(namespace), _service(namespace, doors), _secret(namespace, secret or {}))
            kubectl.apply(_deployment(namespace, image, doors))
            rollout = ["rollout", "status", f"deployment/{NAME}", f"--timeout={_READY_SECONDS}s"]
            kubectl.run("--namespace", namespace, *rollout)
            _import(repositories, namespace, doors[0])
        yield host_of(namespace)
    finally:
        if not keep:
            insist("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def host_of(namespace: str) -> str:
    """The name that pods know the server by."""
    return f"{NAME}.{namespace}.svc"


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


def _import(repositories: Path, namespace: str, door: Door) -> None:
    with tempfile.TemporaryFile() as archive:
        # Not the folder itself: its mode and times belong to the volume.
        names = sorted(path.name for path in repositories.iterdir())
        subprocess.run(["tar", "--create", "--directory", repositories, *names], stdout=archive, check=True)
        archive.seek(0)
        inside = ["exec", "--stdin", f"deployment/{NAME}", "--container", door.name]
        command = kubectl.command("--namespace", namespace, *inside, "--", "tar", "--extract", "--directory", FOLDER)
        done = subprocess.run(
            command, env=commands.environment(), stdin=archive, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise commands.failure(command, done.returncode, (done.stdout + done.stderr).splitlines()[-LAST_LINES:])


def _namespace(name: str) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _secret(namespace: str, content: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace},
        "stringData": content,
    }


def _service(namespace: str, doors: Sequence[Door]) -> dict[str, Any]:
    ports = [{"name": door.name, "port": door.port, "targetPort": door.listens} for door in doors]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"selector": {"app": NAME}, "ports": ports},
    }


def _container(door: Door, image: str) -> dict[str, Any]:
    return {
        "name": door.name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": door.command,
        "ports": [{"containerPort": door.listens}],
        "readinessProbe": {"tcpSocket": {"port": door.listens}, "periodSeconds": 1},
        "securityContext": _SECURITY,
        "volumeMounts": [
            {"name": "repositories", "mountPath": FOLDER},
            {"name": "secret", "mountPath": KEYS, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _deployment(namespace: str, image: str, doors: Sequence[Door]) -> dict[str, Any]:
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _POD_SECURITY,
        "containers": [_container(door, image) for door in doors],
        "volumes": [
            {"name": "repositories", "emptyDir": {}},
            {"name": "secret", "secret": {"secretName": NAME}},
            {"name": "tmp", "emptyDir": {}},
        ],
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
