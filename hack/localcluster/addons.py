"""What a cluster needs beside the node: DNS for Services, and volumes for claims."""

import hashlib
import shutil
from typing import Any

from localcluster import kubectl, network, paths

DNS_LABELS = {"k8s-app": "kube-dns"}
# The unprivileged port that the restricted container may bind; the Service answers on 53.
DNS_PORT = 1053
# Nothing outside can be asked, so other names do not exist; a refusal would make resolvers try again for seconds.
COREFILE = f"""\
cluster.local:{DNS_PORT} in-addr.arpa:{DNS_PORT} ip6.arpa:{DNS_PORT} {{
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 5
    }}
    loadbalance
}}
.:{DNS_PORT} {{
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
VOLUMES = 3
VOLUME_SIZE = "10Gi"
STORAGE_CLASS = "local"
VOLUME_LABELS = {"dawg.dev/local-volume": "true"}


def apply_dns(image: str) -> None:
    kubectl.apply(*_dns_access(), _dns_configuration(), _dns_deployment(image), _dns_service())


def _metadata(name: str, namespaced: bool = True) -> dict[str, Any]:
    return {"name": name, "labels": DNS_LABELS, **({"namespace": "kube-system"} if namespaced else {})}


def _dns_access() -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    watch = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": watch},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch},
    ]
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": _metadata("system:coredns", False)}
    binding = {**role, "kind": "ClusterRoleBinding"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata("coredns")},
        {**role, "rules": rules},
        {
            **binding,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        },
    ]


def _dns_configuration() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("coredns"), "data": {"Corefile": COREFILE}}


def _dns_deployment(image: str) -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": image,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": DNS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
    }
    # CoreDNS does not look at its file again, so another text must mean another pod.
    version = {"dawg.dev/corefile": hashlib.sha256(COREFILE.encode()).hexdigest()[:16]}
    specification = {
        "replicas": 1,
        "selector": {"matchLabels": DNS_LABELS},
        "template": {"metadata": {"labels": DNS_LABELS, "annotations": version}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata("coredns"), "spec": specification}


def _dns_service() -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns-tcp"},
    ]
    specification = {"clusterIP": network.DNS_SERVICE, "selector": DNS_LABELS, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata("kube-dns"), "spec": specification}


def apply_volumes() -> None:
    """There is no provisioner here, so a few volumes wait for claims; a released one is emptied and offered again."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    names = [f"local-{number}" for number in range(1, VOLUMES + 1)]
    for name in names:
        _make_folder(name)
    kubectl.apply(storage_class, *(_volume(name) for name in names))
    for volume in kubectl.get("persistentvolumes", "--selector", "dawg.dev/local-volume=true")["items"]:
        if volume["status"].get("phase") == "Released":
            _offer_again(volume["metadata"]["name"])


def _make_folder(name: str) -> None:
    folder = paths.VOLUMES / name
    folder.mkdir(parents=True, exist_ok=True)
    # Pods run as users of their own choice, and a hostPath ignores fsGroup.
    folder.chmod(0o777)


def _volume(name: str) -> dict[str, Any]:
    specification = {
        "capacity": {"storage": VOLUME_SIZE},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": STORAGE_CLASS,
        "hostPath": {"path": str(paths.VOLUMES / name), "type": "Directory"},
    }
    metadata = {"name": name, "labels": VOLUME_LABELS}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": specification}


def _offer_again(name: str) -> None:
    """Emptied first: the next claim is another one, and must not find the data of the one that was deleted."""
    shutil.rmtree(paths.VOLUMES / name)
    _make_folder(name)
    kubectl.run("patch", "persistentvolume", name, "--type", "merge", "--patch", '{"spec":{"claimRef":null}}')
