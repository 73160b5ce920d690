"""Gitea in the cluster, for stories in which a forge and the product talk to each other."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gitea
from cluster_at_hand import JsonObject, Kubectl
from doors import forwarded, ready_pod

_NAME, _PORT = "gitea", 3000
_HOME = Path("/data")
_USER = "git"  # of the test image; Gitea wants one that /etc/passwd knows, and not root
_USER_ID = 65532
_BEGUN = "/data/everything-is-here"
_DATABASE = f"{_HOME}/data/gitea.db"
_DELIVERED = "select delivered from hook_task where is_delivered and instr(payload_content, ?)"


@dataclass(frozen=True)
class ForgeInCluster:
    """``people`` is how tests reach it, ``url`` how pods do."""

    people: gitea.GiteaServer
    url: str
    kubectl: Kubectl

    def delivered(self, commit: str) -> float | None:
        """When the webhook that tells of a push of this commit was answered, by the clock; Gitea's API does not say."""
        script = (
            f"import sqlite3\nfound = sqlite3.connect({_DATABASE!r}).execute({_DELIVERED!r}, [{commit!r}])"
            "\nfor row in found: print(*row)"
        )
        found = self.kubectl(*_inside(), "python3", "-c", script).split()
        return int(found[0]) / 10**9 if found else None

    def clone_url(self, repository: str) -> str:
        """The address of a public repository, for pods."""
        return f"{self.url}/{repository}.git"


@contextmanager
def in_cluster(image: str) -> Iterator[ForgeInCluster]:
    """The forge in a namespace of its own, until the block is left; the image is that of the tests."""
    namespace = f"dawg-forge-{secrets.token_hex(3)}"
    url = f"http://{_NAME}.{namespace}.svc:{_PORT}"
    kubectl = Kubectl(namespace)
    Kubectl()("create", "namespace", namespace)
    try:
        kubectl.apply(*_objects(image))
        kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod", f"--selector=app={_NAME}", "--timeout=120s")
        _bring(kubectl, url)
        pod = ready_pod(kubectl, f"app={_NAME}")
        printed = kubectl(*_inside(), f"{_HOME}/program/gitea", *gitea.admin_words(), "--config", f"{_HOME}/app.ini")
        with forwarded(kubectl, pod, _PORT) as port:
            people = gitea.GiteaServer(f"http://127.0.0.1:{port}", gitea.admin_of(printed))
            yield ForgeInCluster(people, url, kubectl)
    finally:
        Kubectl()("delete", "namespace", namespace, "--wait=false")


def _inside() -> tuple[str, ...]:
    return "exec", "--stdin", f"deployment/{_NAME}", "--"


def _bring(kubectl: Kubectl, url: str) -> None:
    """Put the program and what it is told into the pod, which waits for that."""
    with subprocess.Popen(["tar", "--create", "--directory", gitea.program(), "."], stdout=subprocess.PIPE) as archive:
        command = ["kubectl", "--namespace", kubectl.namespace, *_inside()]
        unpack = f"mkdir -p {_HOME}/program && tar --extract --no-same-owner --directory {_HOME}/program"
        subprocess.run([*command, "sh", "-c", unpack], stdin=archive.stdout, check=True)
    # In a pod; and what a cluster takes for its Services need not be a private range.
    told = gitea.configuration(_USER, url, _HOME, address="0.0.0.0", tells="*")  # noqa: S104
    kubectl(*_inside(), "sh", "-c", f"cat > {_HOME}/app.ini && touch {_BEGUN}", stdin=told)


def _objects(image: str) -> list[JsonObject]:
    start = f"until [ -e {_BEGUN} ]; do sleep 0.1; done; exec {_HOME}/program/gitea web --config {_HOME}/app.ini"
    container = {
        "name": _NAME, "image": image, "command": ["sh", "-c", start],
        "env": [{"name": "HOME", "value": str(_HOME)}, {"name": "USER", "value": _USER},
                {"name": "GITEA_WORK_DIR", "value": str(_HOME)}],
        "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": str(_HOME)}],
    }  # fmt: skip
    pod = {
        "containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
        "enableServiceLinks": False, "volumes": [{"name": "data", "emptyDir": {}}],
        "securityContext": {"runAsUser": _USER_ID, "runAsGroup": _USER_ID, "fsGroup": _USER_ID},
    }  # fmt: skip
    spec = {
        "selector": {"matchLabels": {"app": _NAME}}, "template": {"metadata": {"labels": {"app": _NAME}}, "spec": pod},
    }  # fmt: skip
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": _NAME}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": _NAME},
         "spec": {"selector": {"app": _NAME}, "ports": [{"port": _PORT}]}},
    ]  # fmt: skip
