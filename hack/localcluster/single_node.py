"""A real Kubernetes with one node and without Docker, from our own builds."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from localcluster import (
    addons,
    certificates,
    cgroups,
    commands,
    control_plane,
    gobuild,
    images,
    kubectl,
    leftovers,
    network,
    node,
    oci_layout,
    packages,
    paths,
    processes,
)
from localcluster.images import BuiltImage, Image
from localcluster.processes import Component
from localcluster.progress import step

START_SECONDS = 120.0
# Each probe is a process of its own, so not ten of them a second on two cores.
PROBE_SECONDS = 0.25


def exists() -> bool:
    return bool(leftovers.remaining())


def create(fsync: bool) -> None:
    """Bring the cluster up: build what is missing, start what does not run, wait until the node is ready."""
    packages.check_machine()
    leftovers.check_owner()
    packages.install_missing()
    for program in (gobuild.KUBERNETES, gobuild.ETCD, gobuild.CONTAINERD, gobuild.COREDNS, gobuild.HELM):
        gobuild.build(program)
    pause, dns = images.pause(), images.coredns()
    _prepare(pause)
    with step("start the cluster") as current:
        control = _start_control_plane(fsync)
        current.note = "the apiserver is ready"
        components = [*control, *_start_node(pause, dns)]
        ready = ["--for=condition=Ready", "--timeout=120s", f"node/{certificates.NODE_NAME}"]
        wait = kubectl.command("wait", *ready)
        processes.wait_for("the node", _node_is_known, components, START_SECONDS, PROBE_SECONDS)
        processes.wait_for_command("the node to be ready", wait, components, START_SECONDS)
        current.note = ""
    _start_addons(dns, components)


def _prepare(pause: BuiltImage) -> None:
    if not _lives():
        if leftovers.remaining():
            with step("clean up what an earlier cluster left"):
                leftovers.clean()
        leftovers.claim()
        network.create()
        certificates.create_all()
    cgroups.create()
    control_plane.write_configuration()
    node.write_configuration(pause.reference)
    kubectl.link_commands(gobuild.KUBERNETES, gobuild.CONTAINERD, gobuild.ETCD, gobuild.HELM)


def _lives() -> bool:
    """Whether a cluster is there to go on with: of one with no living process, etcd's data may be torn."""
    return processes.any_lives() and network.exists() and paths.KUBECONFIG.exists()


def _start_control_plane(fsync: bool) -> list[Component]:
    etcd, apiserver = control_plane.etcd(fsync), control_plane.apiserver()
    processes.ensure(etcd)
    processes.ensure(apiserver)
    ready = kubectl.command("get", "--raw", "/readyz")
    started = [etcd, apiserver]
    processes.wait_for("the apiserver", lambda: commands.succeeds(ready), started, START_SECONDS, PROBE_SECONDS)
    for component in (control_plane.controller_manager(), control_plane.scheduler()):
        processes.ensure(component)
        started.append(component)
    return started


def _start_node(pause: BuiltImage, dns: BuiltImage) -> list[Component]:
    containerd, kubelet, kube_proxy = node.containerd(), node.kubelet(), node.kube_proxy()
    processes.ensure(containerd)
    # The kubelet gives up at once where the runtime does not answer, or has no image for its sandboxes.
    version = node.ctr("version")
    processes.wait_for("containerd", lambda: commands.succeeds(version), [containerd], START_SECONDS)
    load([pause, dns])
    processes.ensure(kubelet)
    processes.ensure(kube_proxy)
    return [containerd, kubelet, kube_proxy]


def _node_is_known() -> bool:
    return commands.succeeds(kubectl.command("get", "node", certificates.NODE_NAME))


def _start_addons(dns: BuiltImage, components: list[Component]) -> None:
    with step("start DNS and offer volumes"):
        addons.apply_dns(dns.reference)
        addons.apply_volumes()
        rollout = ["--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"]
        processes.wait_for_command("CoreDNS", kubectl.command(*rollout), components, START_SECONDS)


def build(image: Image) -> BuiltImage:
    return images.build(image)


def load(built: Sequence[BuiltImage]) -> None:
    """Give the node's container runtime the images that it does not have; there is no registry to pull them from."""
    present = commands.run(node.ctr("images", "ls", "--quiet")).split()
    for image in built:
        if image.reference in present:
            continue
        with tempfile.NamedTemporaryFile(dir=paths.CACHE, suffix=".tar") as archive:
            blobs = commands.run(node.ctr("content", "ls", "--quiet")).split()
            oci_layout.write_archive(image.reference, blobs, Path(archive.name))
            commands.run(node.ctr("images", "import", archive.name))


def delete() -> None:
    packages.check_machine()
    leftovers.check_owner()
    leftovers.clean()
