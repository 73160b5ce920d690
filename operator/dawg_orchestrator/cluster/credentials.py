"""Who we are to the apiserver: the pod's service account, or a kubeconfig's current context (for development)."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dawg_orchestrator.errors import Unavailable

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_FRESH_SECONDS = 60.0  # the kubelet renews a projected token long before it expires; re-read it this often


@dataclass
class Credentials:
    """Address, TLS and token of one apiserver."""

    server: str
    ssl_context: ssl.SSLContext
    namespace: str = "default"
    token: str | None = None
    token_file: Path | None = None
    _read_at: float = field(default=-_TOKEN_FRESH_SECONDS, repr=False)

    def headers(self) -> dict[str, str]:
        """The Authorization header, its token read anew now and then."""
        now = time.monotonic()
        if self.token_file is not None and now - self._read_at >= _TOKEN_FRESH_SECONDS:
            self.token, self._read_at = self.token_file.read_text().strip(), now
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find_credentials() -> Credentials:
    """KUBECONFIG where it is set, else the pod's service account, else ~/.kube/config; else Unavailable."""
    if os.environ.get("KUBECONFIG"):
        return from_kubeconfig(Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]))
    if "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").exists():
        return from_service_account()
    default = Path.home() / ".kube" / "config"
    if default.exists():
        return from_kubeconfig(default)
    raise Unavailable("no cluster: neither KUBECONFIG, nor a service account, nor ~/.kube/config is there")


def service_account_server() -> str:
    """The apiserver's address as every pod is told it."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def from_service_account() -> Credentials:
    """The pod's own identity."""
    return Credentials(
        server=service_account_server(),
        ssl_context=ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt")),
        namespace=(_SERVICE_ACCOUNT / "namespace").read_text().strip(),
        token_file=_SERVICE_ACCOUNT / "token",
    )


def from_kubeconfig(path: Path) -> Credentials:
    """The current context of a kubeconfig with a token or a client certificate (no exec plugins)."""
    config = yaml.safe_load(path.read_text())
    contexts = {entry["name"]: entry["context"] for entry in config.get("contexts") or []}
    context = contexts.get(config.get("current-context", ""))
    if context is None:
        raise Unavailable(f"{path} has no current context")
    cluster = _named(config, "clusters", context["cluster"])["cluster"]
    user = _named(config, "users", context["user"])["user"]
    return Credentials(
        server=cluster["server"].rstrip("/"),
        ssl_context=_ssl_context(cluster, user),
        namespace=context.get("namespace") or "default",
        token=user.get("token"),
        token_file=Path(user["tokenFile"]) if "tokenFile" in user else None,
    )


def _named(config: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    for entry in config.get(section) or []:
        if entry["name"] == name:
            found: dict[str, Any] = entry
            return found
    raise Unavailable(f"the kubeconfig has no {section[:-1]} named {name}")


def _ssl_context(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    ca_data = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"), cadata=base64.b64decode(ca_data).decode() if ca_data else None
    )
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "client-certificate" in user:
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    elif "client-certificate-data" in user:
        # The ssl module reads key pairs from files only.
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(
                base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
            )
            context.load_cert_chain(pair)
    return context
