"""The chart as helm renders it, and values that stand for the ways in which it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml

from realcluster import ROOT, Manifest

CHART = ROOT / "charts" / "dawg"
AUTHORITY = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
OWN_CERTIFICATE = {"mode": "existingSecret", "existingSecret": "certificate", "caBundle": AUTHORITY}

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "several namespaces": {"namespaces": ["team-a", "team-b"]},
    "two controllers": {"controller": {"replicas": 2}},
    "two apis": {
        "api": {
            "replicas": 2, "database": {"secretName": "db"},
            "files": {
                "url": "s3://dawg/files", "endpoint": "https://s3.example.com", "caBundle": AUTHORITY,
                "secretName": "keys",
            },
        }
    },
    "ingress and metrics": {
        "api": {
            "ingress": {
                "enabled": True, "host": "dawg.example.com", "tlsSecretName": "tls", "className": "nginx",
                "controllerNamespaceLabels": {"name": "ingress"},
            }
        },
        "networkPolicy": {"metricsNamespaceLabels": {"name": "monitoring"}},
    },
    "webhooks": {
        "webhooks": {
            "enabled": True, "senderNamespaceLabels": {"name": "ingress"},
            "ingress": {"enabled": True, "host": "hooks.example.com", "tlsSecretName": "tls", "className": "nginx"},
        }
    },
    "built-in steps": {
        "builtin": {
            "enabled": True, "rollback": {"enabled": True}, "secrets": [{"name": "chat", "key": "url", "env": "CHAT"}],
        }
    },
    "own certificate": {"tls": OWN_CERTIFICATE},
    "beside another release": {"crds": {"install": False}},
    "nothing optional": {
        "defaultPool": {"enabled": False}, "warmPool": {"enabled": False}, "networkPolicy": {"enabled": False},
        "rbac": {"aggregateToDefaultRoles": False},
        "podDisruptionBudget": {"enabled": False}, "api": {"persistence": {"enabled": False}},
    },
    "placement": {
        "imagePullSecrets": ["registry"], "priorityClassName": "system-cluster-critical",
        "commonLabels": {"team": "qa"},
        "controller": {"nodeSelector": {"a": "b"}, "env": [{"name": "A", "value": "b"}], "podAnnotations": {"x": "y"}},
        "api": {"tolerations": [{"key": "k", "operator": "Exists"}]},
    },
}  # fmt: skip


needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason='needs helm: eval "$(hack/up --env)" has one')


def helm(namespace: str, values: str) -> subprocess.CompletedProcess[str]:
    command = ["helm", "template", "dawg", str(CHART), "-n", namespace, "--kube-version", "1.37.0", "-f", "-"]
    return subprocess.run(command, input=values, capture_output=True, text=True, check=False, timeout=60)


@cache
def _rendered(namespace: str, values: str) -> tuple[Manifest, ...]:
    done = helm(namespace, values)
    assert done.returncode == 0, done.stderr
    return tuple(manifest for manifest in yaml.safe_load_all(done.stdout) if manifest)


def render(namespace: str = "dawg", **values: Any) -> tuple[Manifest, ...]:
    return _rendered(namespace, json.dumps(values))


def refusal(**values: Any) -> str:
    """Why helm does not render with these values; empty when it does."""
    done = helm("dawg", json.dumps(values))
    return done.stderr if done.returncode else ""


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def the(manifests: tuple[Manifest, ...], kind: str, name: str, namespace: str | None = None) -> Manifest:
    found = [
        manifest
        for manifest in of_kind(manifests, kind)
        if manifest["metadata"]["name"] == name and namespace in (None, manifest["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} {kind} {name}"
    return found[0]
