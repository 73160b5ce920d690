"""The cluster of KUBECONFIG as a test uses it: a namespace of its own, and what the apiserver thinks of an object."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
Manifest = dict[str, Any]

# With these a later `helm install` of the release that hack/up installs takes the definitions over.
_ADOPTABLE = {
    "annotations": {"meta.helm.sh/release-name": "dawg", "meta.helm.sh/release-namespace": "dawg"},
    "labels": {"app.kubernetes.io/managed-by": "Helm"},
}


@dataclass(frozen=True)
class RealCluster:
    """kubectl in a namespace; without one each object says itself where it belongs."""

    namespace: str

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; the caller looks at the exit code."""
        command = ["kubectl", *(["--namespace", self.namespace] if self.namespace else []), *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    def done(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it printed; a refusal fails the test with the apiserver's words."""
        result = self.kubectl(*words, stdin=stdin)
        assert result.returncode == 0, f"kubectl {' '.join(words)}: {result.stderr}"
        return result.stdout

    def create(self, manifest: Manifest, *words: str) -> Manifest:
        """Create an object and return it as the apiserver stored it."""
        created: Manifest = json.loads(self.done("create", "-f", "-", "-o", "json", *words, stdin=json.dumps(manifest)))
        return created

    def get(self, resource: str, name: str) -> Manifest:
        """An object as it is now."""
        found: Manifest = json.loads(self.done("get", resource, name, "-o", "json"))
        return found

    def refusal(self, manifest: Manifest, *words: str) -> str:
        """Why the apiserver does not take an object; empty when it would."""
        return self.kubectl("create", "--dry-run=server", "-f", "-", *words, stdin=json.dumps(manifest)).stderr

    def patch(self, resource: str, name: str, change: Manifest, *words: str) -> str:
        """Change an object; why the apiserver refused, or empty."""
        return self.kubectl("patch", resource, name, "--type=merge", "-p", json.dumps(change), *words).stderr


def need_cluster() -> None:
    """Skip the test where no cluster is at hand."""
    if not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None:
        pytest.skip('needs a cluster and kubectl: hack/up, then eval "$(hack/up --env)"')


def image_with_python(within: float = 120.0) -> str:
    """The image of the tests' pods that hack/up gives to the node, which tells of it after a while."""
    need_cluster()
    cluster, deadline = RealCluster(""), time.monotonic() + within
    while True:
        nodes = json.loads(cluster.done("get", "nodes", "-o", "json"))["items"]
        images = [image for node in nodes for image in node["status"].get("images", [])]
        known = [name for image in images for name in image.get("names", [])]
        if found := next((name for name in known if "dawg-test:" in name), None):
            return str(found)
        assert time.monotonic() < deadline, "no node has the image dawg-test; hack/up --cluster-only loads it"
        time.sleep(0.5)


@contextmanager
def namespace_on_cluster(prefix: str) -> Iterator[RealCluster]:
    """A namespace that is deleted afterwards; the test is skipped where there is no cluster."""
    need_cluster()
    cluster = RealCluster(f"{prefix}-{uuid4().hex[:8]}")
    cluster.done("create", "namespace", cluster.namespace)
    try:
        yield cluster
    finally:
        cluster.done("delete", "namespace", cluster.namespace, "--wait=false")


def apply_definitions(cluster: RealCluster) -> None:
    """The resources' definitions as they are in the checkout, served."""
    definitions = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.yaml"))]
    for definition in definitions:
        definition["metadata"]["annotations"] = _ADOPTABLE["annotations"]
        definition["metadata"]["labels"] |= _ADOPTABLE["labels"]
    text = yaml.safe_dump_all(definitions)
    cluster.done("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    names = [f"crd/{definition['metadata']['name']}" for definition in definitions]
    cluster.done("wait", "--for=condition=Established", "--timeout=60s", *names)
