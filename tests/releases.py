"""A release of the chart beside the one that hack/up installed: that one, and the definitions, are left alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from chart import CHART
from cluster_at_hand import RELEASE, JsonObject, Kubectl
from doors import API_PODS, CONTROLLER_PODS

TIMEOUT = "180s"
LEASE = "dawg-leader"
_IN_NAMESPACES = (
    "deployments,services,serviceaccounts,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,"
    "configmaps,secrets,jobs.batch,networkpolicies,poddisruptionbudgets"
)
_OWNERS_OF_PODS = "testruns.dawg.dev,agentpools.dawg.dev,deployments,replicasets,jobs.batch"
_IN_THE_CLUSTER = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"


def helm(*words: str, values: JsonObject | None = None) -> str:
    """Run helm; a failure fails the test with what it said."""
    given = [] if values is None else ["--values", "-"]
    done = subprocess.run(
        ["helm", *words, *given], input=json.dumps(values or {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout


class Release:
    """One release with a namespace of its own, which it watches, and a small default pool."""

    def __init__(self) -> None:
        self.name = f"beside-{uuid4().hex[:6]}"
        self._namespaces: list[str] = []
        self.namespace = self.given_namespace()
        self.kubectl = Kubectl(self.namespace)

    def given_namespace(self) -> str:
        """Another namespace of this story."""
        name = f"{self.name}-{len(self._namespaces)}"
        Kubectl()("create", "namespace", name)
        self._namespaces.append(name)
        return name

    def install(self, **chosen: Any) -> None:
        """Install the images that the cluster has, without the definitions; ``chosen`` are values of the chart."""
        first = json.loads(helm("get", "values", RELEASE, "--namespace", RELEASE, "--output", "json"))
        values = {
            **{name: first[name] for name in ("image", "defaultTaskImage") if name in first},
            "crds": {"install": False},
            "defaultPool": {"minAgents": 2, "maxAgents": 2, "slots": 4},
            "warmPool": {"enabled": False},
            **chosen,
        }
        helm("install", self.name, str(CHART), *self._here, *_until_ready(), values=values)

    def upgrade(self, **values: Any) -> None:
        """Change some values."""
        helm("upgrade", self.name, str(CHART), *self._here, "--reuse-values", *_until_ready(), values=values)

    def uninstall(self) -> None:
        """As the docs say it."""
        helm("uninstall", self.name, *self._here)

    @property
    def _here(self) -> tuple[str, str]:
        return "--namespace", self.namespace

    def term(self) -> int:
        """How often the lead was taken."""
        return int((self._lease() or {}).get("leaseTransitions", 0))

    def leader(self) -> str:
        """The pod of the controller that leads; empty while none does."""
        return str((self._lease() or {}).get("holderIdentity", ""))

    def _lease(self) -> JsonObject | None:
        found = self.kubectl.get("leases.coordination.k8s.io", LEASE)
        return found and found["spec"]

    def role_pods(self) -> set[str]:
        """The pods of both roles, by name."""
        pods = [pod for role in (CONTROLLER_PODS, API_PODS) for pod in self.kubectl.items("pods", role)]
        return {pod["metadata"]["name"] for pod in pods}

    def objects(self) -> list[str]:
        """What of the chart is there, apart from what an uninstall leaves."""
        mine = ("--selector", f"app.kubernetes.io/instance={self.name}", "--output", "name")
        kinds = (_IN_NAMESPACES, _IN_THE_CLUSTER)
        return [line for kind in kinds for line in self.kubectl("get", kind, *mine).splitlines()]

    def remove(self) -> None:
        """Remove everything, whatever state it is in."""
        for namespace in self._namespaces:
            there = Kubectl(namespace)
            there("delete", _OWNERS_OF_PODS, "--all", "--wait=false", check=False)
            # a namespace waits for its pods' grace, and the volume for the namespace; nobody takes their reports here
            there("delete", "pods", "--all", "--grace-period=0", "--force", check=False)
        mine = ("--selector", f"app.kubernetes.io/instance={self.name}")
        self.kubectl("delete", _IN_THE_CLUSTER, *mine, check=False)
        self.kubectl("delete", "namespace", *self._namespaces, "--ignore-not-found", "--wait=false")


def _until_ready() -> tuple[str, ...]:
    return "--wait", "--timeout", TIMEOUT


@contextmanager
def release_beside(*objects: JsonObject, **values: Any) -> Iterator[Release]:
    """A release that is removed afterwards, with all namespaces that it was given.

    The objects are in its namespace before it is.
    """
    release = Release()
    try:
        if objects:
            release.kubectl.apply(*objects)
        release.install(**values)
        yield release
    finally:
        release.remove()
