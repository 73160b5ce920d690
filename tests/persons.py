"""People and programs of the cluster as it knows them: they sign in by a token of their own, and with nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster_at_hand import JsonObject, Kubectl


@dataclass(frozen=True)
class Person:
    """Who acts through the real apiserver; ``name`` is what that calls them."""

    name: str
    namespace: str
    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as this person; the caller looks at the exit code."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def creates(self, manifest: JsonObject) -> str:
        """Create an object; returns its name. A refusal fails the test."""
        done = self.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest))
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["metadata"]["name"])

    def is_refused(self, *words: str, manifest: JsonObject | None = None) -> str:
        """The apiserver's words, which refuse; whatever it takes fails the test."""
        done = self.kubectl(*words, stdin=json.dumps(manifest) if manifest is not None else None)
        assert done.returncode != 0, f"{self.name} may: kubectl {' '.join(words)}: {done.stdout}"
        assert "orbidden" in done.stderr or "denied" in done.stderr, done.stderr
        return done.stderr


def signed_in(kubectl: Kubectl, account: str, role: str, folder: Path) -> Person:
    """A service account that has one of the chart's roles, and nothing else, with a kubeconfig of its own."""
    namespace = kubectl.namespace
    kubectl("create", "serviceaccount", account)
    kubectl("create", "rolebinding", account, f"--role={role}", f"--serviceaccount={namespace}:{account}")
    token = kubectl("create", "token", account).strip()
    ours = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = ours["clusters"][0]
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "clusters": [cluster], "current-context": account,
        "users": [{"name": account, "user": {"token": token}}],
        "contexts": [{"name": account,
                      "context": {"cluster": cluster["name"], "user": account, "namespace": namespace}}],
    }  # fmt: skip
    path = folder / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    path.chmod(0o600)
    return Person(f"system:serviceaccount:{namespace}:{account}", namespace, path)
