"""A namespace of its own on a real apiserver, whose runs no controller touches: the test plays the controller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from typer.testing import CliRunner, Result

from dawg_orchestrator.client.cli import app
from dawg_orchestrator.client.connection import Cluster, connect, resource_path
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.client.testruns import Run, create_run, get_run
from dawg_orchestrator.errors import DawgError, NotFound

ROOT = Path(__file__).resolve().parents[3]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SEEN = {"type": "Seen", "status": "True", "reason": "Seen", "message": ""}


@dataclass(frozen=True)
class Playground:
    """The namespace, and the hands of whoever plays the controller there."""

    cluster: Cluster
    namespace: str

    def create_run(self, **metadata: str) -> Run:
        """A run of one task."""
        manifest = {
            "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun",
            "metadata": {"namespace": self.namespace, **(metadata or {"generateName": "run-"})},
            "spec": {"tasks": [{"name": "unit", "image": "alpine", "run": "true"}]},
        }  # fmt: skip
        return create_run(self.cluster, manifest)

    def get_run(self, name: str) -> Run:
        """The run as it is now."""
        return get_run(self.cluster, self.namespace, name)

    def write_status(self, name: str, **status: Any) -> None:
        """What a controller would report."""
        path = resource_path("testruns", self.namespace, name) + "/status"
        self.cluster.merge(path, {"status": {"conditions": [SEEN], **status}})

    def create(self, plural: str, body: dict[str, Any], *, api: str = "api/v1") -> dict[str, Any]:
        """Any other object."""
        return self.cluster.create(resource_path(plural, self.namespace, api=api), body)

    def delete(self, path: str) -> None:
        """Delete an object at once."""
        self.cluster._json("DELETE", path)

    def dawg(self, *arguments: str, stdin: str | None = None) -> Result:
        """The command in this process; ``output`` has stdout and stderr, ``stdout`` only the first."""
        environment = {"DAWG_NAMESPACE": self.namespace, "TERM": "dumb", "COLUMNS": "300"}
        return CliRunner().invoke(app, ["-n", self.namespace, *arguments], input=stdin, env=environment)

    @contextmanager
    def started_dawg(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command in a process of its own, which hears Ctrl-C even where the tests run in the background."""
        paths = {"PYTHONPATH": str(ROOT / "operator"), "DAWG_NAMESPACE": self.namespace, "TERM": "dumb"}
        command = [sys.executable, "-m", "dawg_orchestrator.client.cli", "-n", self.namespace, *arguments]
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process inherits SIG_IGN, but no handler
        try:
            process = subprocess.Popen(
                command, env=os.environ | paths, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        finally:
            signal.signal(signal.SIGINT, ours)
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of KUBECONFIG, with the resources' types."""
    try:
        connected = connect(Target())
        connected.get("/version")
    except DawgError as error:
        pytest.skip(f"needs a cluster in KUBECONFIG (hack/up starts one): {error}")
    made = []
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        try:
            connected.get(f"{CRDS}/{crd['metadata']['name']}")
        except NotFound:
            made.append(connected.create(CRDS, crd)["metadata"]["name"])
    yield connected
    for name in made:  # left behind, they would be in the way of the chart's
        connected._json("DELETE", f"{CRDS}/{name}")
    connected.close()


@pytest.fixture(scope="session")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that goes with the tests."""
    name = f"dawg-cli-{uuid4().hex[:8]}"
    cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield name
    finally:
        cluster._json("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def playground(cluster: Cluster, namespace: str) -> Playground:
    """Where to play the controller."""
    return Playground(cluster, namespace)


@pytest.fixture(autouse=True)
def no_shared_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release that may be installed in the cluster has nothing to do with these tests."""
    monkeypatch.delenv("DAWG_NAMESPACE", raising=False)
