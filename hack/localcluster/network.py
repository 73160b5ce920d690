"""The cluster's network: a namespace of its own, joined to the host by one veth pair and to nothing else.

It has no default route, so that no packet of a test can leave the machine. The addresses are from 198.18.0.0/15, which
is reserved for benchmarks and which no network that a laptop joins uses.
"""

from pathlib import Path

from localcluster import commands

NAMESPACE = "dawg-cluster"
NAMESPACE_FILE = Path("/run/netns") / NAMESPACE
HOST_INTERFACE = "dawg-host"
NODE_INTERFACE = "dawg-node"
HOST_ADDRESS = "198.18.201.1"
NODE_ADDRESS = "198.18.201.2"
LINK_PREFIX = 30
SERVICES = "198.18.208.0/20"
KUBERNETES_SERVICE = "198.18.208.1"
DNS_SERVICE = "198.18.208.10"
# A /20 and not a /24: addresses of ended pods stay reserved until the kubelet removes their sandbox.
PODS = "198.19.192.0/20"

# nsenter, because `ip netns exec` would also mount a new /sys and so hide the cgroups.
ENTER = ("/usr/bin/nsenter", f"--net={NAMESPACE_FILE}")

# Pods reach pods and the node. The host is refused because it has no route to them, and would send its answers to its
# own default gateway; all else, so that a test that asks the internet fails at once and not after minutes.
POD_BOUNDARY = f"""\
table ip dawg-boundary {{
    chain prerouting {{
        type filter hook prerouting priority filter; policy accept;
        iifname {{ "lo", "{NODE_INTERFACE}" }} accept
        ip daddr {{ {PODS}, {NODE_ADDRESS} }} accept
        meta l4proto tcp reject with tcp reset
        reject
    }}
}}
"""


def exists() -> bool:
    return NAMESPACE_FILE.exists() and Path(f"/sys/class/net/{HOST_INTERFACE}").exists()


def create() -> None:
    commands.run(["ip", "netns", "add", NAMESPACE])
    peer = ["peer", "name", NODE_INTERFACE, "netns", NAMESPACE]
    commands.run(["ip", "link", "add", HOST_INTERFACE, "type", "veth", *peer])
    commands.run(["ip", "address", "add", f"{HOST_ADDRESS}/{LINK_PREFIX}", "dev", HOST_INTERFACE])
    commands.run(["ip", "link", "set", HOST_INTERFACE, "up"])
    inside = ["ip", "-netns", NAMESPACE]
    commands.run([*inside, "address", "add", f"{NODE_ADDRESS}/{LINK_PREFIX}", "dev", NODE_INTERFACE])
    commands.run([*inside, "link", "set", "lo", "up"])
    commands.run([*inside, "link", "set", NODE_INTERFACE, "up"])
    # The node itself (the apiserver calling a webhook) looks up a route before kube-proxy rewrites the address.
    commands.run([*inside, "route", "add", SERVICES, "dev", NODE_INTERFACE])
    commands.run([*ENTER, "nft", "--file", "-"], stdin=POD_BOUNDARY)


def delete() -> None:
    """The namespace takes its end of the pair along, but only once the last process in it is gone."""
    if Path(f"/sys/class/net/{HOST_INTERFACE}").exists():
        commands.run(["ip", "link", "delete", HOST_INTERFACE])
    if NAMESPACE_FILE.exists():
        commands.run(["ip", "netns", "delete", NAMESPACE])
