"""Keys, certificates and kubeconfigs: made once per cluster with openssl."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from localcluster import commands, network, paths

VALID_DAYS = "3650"
CLUSTER_NAME = "dawg-local"
RELEASE_NAMESPACE = "dawg"
SERVER = f"https://{network.NODE_ADDRESS}:6443"
NODE_NAME = "dawg"

# openssl's own default configuration would mark every certificate as an authority.
OPENSSL_CONFIGURATION = "[req]\ndistinguished_name = subject\n[subject]\n"


def certificate(name: str) -> Path:
    return paths.CERTIFICATES / f"{name}.crt"


def key(name: str) -> Path:
    return paths.CERTIFICATES / f"{name}.key"


def kubeconfig(name: str) -> Path:
    return paths.CONFIGURATION / f"{name}.kubeconfig"


def create_all() -> None:
    paths.CERTIFICATES.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.CONFIGURATION.mkdir(parents=True, exist_ok=True, mode=0o700)
    (paths.CERTIFICATES / "openssl.cnf").write_text(OPENSSL_CONFIGURATION)
    _create_authority("ca")
    # The aggregation layer must trust another authority than clients do, or any client could pose as the front proxy.
    _create_authority("front-proxy-ca")
    _create_certificate("front-proxy", "/CN=front-proxy", authority="front-proxy-ca", usage="clientAuth")
    _create_certificate("apiserver", "/CN=kube-apiserver", usage="serverAuth", names=_apiserver_names())
    _create_certificate("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet", usage="clientAuth")
    _create_certificate("kubelet-server", f"/CN={NODE_NAME}", usage="serverAuth", names=f"IP:{network.NODE_ADDRESS}")
    commands.run(["openssl", "genrsa", "-out", key("service-account"), "2048"])
    _create_client("admin", "/O=system:masters/CN=admin")
    _create_client("controller-manager", "/CN=system:kube-controller-manager")
    _create_client("scheduler", "/CN=system:kube-scheduler")
    _create_client("kubelet", f"/O=system:nodes/CN=system:node:{NODE_NAME}")
    _create_client("kube-proxy", "/CN=system:kube-proxy")
    paths.KUBECONFIG.touch(mode=0o600)
    paths.KUBECONFIG.write_text(kubeconfig("admin").read_text())


def _apiserver_names() -> str:
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    addresses = [network.NODE_ADDRESS, network.KUBERNETES_SERVICE, "127.0.0.1"]
    return ",".join([*(f"DNS:{name}" for name in names), *(f"IP:{address}" for address in addresses)])


_P256 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def _request(name: str, subject: str, *, key_type: Sequence[str] = _P256) -> list[str | Path]:
    return [
        *("openssl", "req", "-x509", "-days", VALID_DAYS, "-subj", subject),
        *("-newkey", *key_type, "-nodes"),
        *("-config", str(paths.CERTIFICATES / "openssl.cnf")),
        *("-keyout", str(key(name)), "-out", str(certificate(name))),
    ]


def _create_authority(name: str) -> None:
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    # RSA as kubeadm makes it: the apiserver verifies the authority's signature at every request with a certificate.
    commands.run([*_request(name, f"/CN={CLUSTER_NAME}-{name}", key_type=("rsa:2048",)), *extensions])


def _create_certificate(name: str, subject: str, *, usage: str, authority: str = "ca", names: str = "") -> None:
    extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}"]
    if names:
        extensions += ["-addext", f"subjectAltName={names}"]
    signer = ["-CA", str(certificate(authority)), "-CAkey", str(key(authority))]
    commands.run([*_request(name, subject), *signer, *extensions])


def _create_client(name: str, subject: str) -> None:
    _create_certificate(name, subject, usage="clientAuth")
    cluster = {"server": SERVER, "certificate-authority-data": _encoded(certificate("ca"))}
    user = {"client-certificate-data": _encoded(certificate(name)), "client-key-data": _encoded(key(name))}
    context = {"cluster": CLUSTER_NAME, "user": name, "namespace": RELEASE_NAMESPACE}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER_NAME, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": CLUSTER_NAME, "context": context}],
        "current-context": CLUSTER_NAME,
    }
    file = kubeconfig(name)
    file.touch(mode=0o600)
    file.write_text(json.dumps(content, indent=2))


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
