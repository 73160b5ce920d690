"""The node: containerd with its network plugins, the kubelet and kube-proxy."""

import json
from pathlib import Path
from typing import Any

from localcluster import cgroups, gobuild, network, paths
from localcluster.certificates import NODE_NAME, certificate, key, kubeconfig
from localcluster.processes import Component

CONTAINERD_SOCKET = paths.RUNTIME / "containerd.sock"
CONTAINERS = "k8s.io"
NETWORK_NAME = "dawg"
MOST_PODS = 250

CONTAINERD_CONFIGURATION = """\
version = 3
root = "{root}"
state = "{runtime}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
address = "{socket}"

[debug]
address = "{runtime}/debug.sock"

[plugins."io.containerd.shim.v1.manager"]
socket_dir = "{runtime}/s"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
# Root may lack CAP_SYS_RESOURCE, and then cannot lower the score.
restrict_oom_score_adj = true
# Otherwise the namespaces of pods lie among other people's in /run/netns.
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{shim}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{runtime}/runc"
"""


def _write(file: Path, text: str) -> None:
    """Only what changed: kube-proxy ends itself whenever its file is written, even with the same text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    _write(file, json.dumps(content, indent=2))


def _containerd_configuration() -> Path:
    return paths.CONFIGURATION / "containerd.toml"


def _kubelet_configuration() -> Path:
    return paths.CONFIGURATION / "kubelet.json"


def _kube_proxy_configuration() -> Path:
    return paths.CONFIGURATION / "kube-proxy.json"


def write_configuration(pause_image: str) -> None:
    network_plugins = paths.CONFIGURATION / "cni"
    text = CONTAINERD_CONFIGURATION.format(
        root=paths.CLUSTER / "containerd",
        runtime=paths.RUNTIME,
        socket=CONTAINERD_SOCKET,
        pause=pause_image,
        cni=network_plugins,
        shim=gobuild.build(gobuild.CONTAINERD) / "containerd-shim-runc-v2",
    )
    _write(_containerd_configuration(), text)
    _write_json(network_plugins / "10-dawg.conflist", _network_configuration())
    _write_json(_kubelet_configuration(), kubelet_configuration())
    _write_json(_kube_proxy_configuration(), _kube_proxy_settings())
    # Pods that ask for the node's DNS get none: no resolver can be reached from the namespace.
    _write(paths.CONFIGURATION / "resolv.conf", "")


def _network_configuration() -> dict[str, Any]:
    """Point to point, not a bridge: every packet is routed, so that a Service's replies pass the node's translation."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": network.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(paths.CLUSTER / "cni"),
    }
    return {
        "cniVersion": "1.0.0",
        "name": NETWORK_NAME,
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_configuration() -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(certificate("ca"))}},
        "tlsCertFile": str(certificate("kubelet-server")),
        "tlsPrivateKeyFile": str(key("kubelet-server")),
        "address": network.NODE_ADDRESS,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [network.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(paths.CONFIGURATION / "resolv.conf"),
        "volumePluginDir": str(paths.CLUSTER / "volume-plugins"),
        "podLogsDir": str(paths.LOGS / "pods"),
        "containerLogMaxSize": "50Mi",
        "maxPods": MOST_PODS,
        "serializeImagePulls": False,
        # A cgroup of our own, so that what is left in it after a kill is ours beyond doubt.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.ROOT}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # Images cannot be pulled again, and a developer's disk is often nearly full.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "nodeStatusMaxImages": -1,
    }


def _kube_proxy_settings() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": network.PODS,
        "clientConnection": {"kubeconfig": str(kubeconfig("kube-proxy"))},
        "hostnameOverride": NODE_NAME,
        "oomScoreAdj": 0,
        # The limits of connection tracking are the host's, and not for a namespace to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def containerd() -> Component:
    program = gobuild.build(gobuild.CONTAINERD) / "containerd"
    command = (*network.ENTER, str(program), "--config", str(_containerd_configuration()))
    return Component("containerd", command, (_containerd_configuration(),))


def kubelet() -> Component:
    command = (
        *network.ENTER,
        str(gobuild.build(gobuild.KUBERNETES) / "kubelet"),
        f"--config={_kubelet_configuration()}",
        f"--kubeconfig={kubeconfig('kubelet')}",
        f"--root-dir={paths.CLUSTER / 'kubelet'}",
        f"--cert-dir={paths.CERTIFICATES}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={network.NODE_ADDRESS}",
    )
    return Component("kubelet", command, (_kubelet_configuration(), kubeconfig("kubelet")))


def kube_proxy() -> Component:
    program = gobuild.build(gobuild.KUBERNETES) / "kube-proxy"
    command = (*network.ENTER, str(program), f"--config={_kube_proxy_configuration()}")
    return Component("kube-proxy", command, (_kube_proxy_configuration(), kubeconfig("kube-proxy")))


def ctr(*arguments: str) -> list[str]:
    program = gobuild.build(gobuild.CONTAINERD) / "ctr"
    return [str(program), "--address", str(CONTAINERD_SOCKET), "--namespace", CONTAINERS, *arguments]
