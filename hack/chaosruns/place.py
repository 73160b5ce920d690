"""The product under test: a release of the chart beside the installed one, in a namespace of its own.

Its controllers are the image's own, started by a shell in their pods that starts them again whenever they die: at once,
where the kubelet would let them wait longer and longer. They speak to the apiserver through the proxy.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaosruns import plants
from chaosruns.eventually import until
from dawg_orchestrator.cluster.client import LEASES, PODS, Cluster, JsonObject
from dawg_orchestrator.errors import ClusterError
from dawg_orchestrator.resources import names
from localcluster import commands, kubectl, network, paths
from localcluster.install import CHART, RELEASE
from localcluster.install import NAMESPACE as INSTALLED_IN

NAMESPACE = "dawg-chaos"
_NAME = "chaos"
_CONTROLLER = "chaos-dawg-controller"
_API = "chaos-dawg-api"
_START_ANEW = "while true; do {}; sleep 0.1; done"
_HELM = (paths.COMMANDS / "helm", "--kubeconfig", paths.KUBECONFIG)
_CLUSTER_WIDE = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"


@dataclass(frozen=True)
class Seat:
    """A controller's pod: where it is, and the shell that starts the controller."""

    pod: str
    address: str
    shell: int

    def controller(self) -> int | None:
        """The process id of the controller, if one lives now."""
        with suppress(OSError):
            children = Path(f"/proc/{self.shell}/task/{self.shell}/children").read_text().split()
            for child in map(int, children):
                if b"controller" in _command(child):
                    return child
        return None


class Controllers:
    """The controllers' processes, by the addresses of their pods."""

    def __init__(self, cluster: Cluster, seats: list[Seat]) -> None:
        self._cluster = cluster
        self.seats = {seat.address: seat for seat in seats}

    async def kill(self, address: str) -> None:
        """End a controller without a word; another one is started in its place."""
        seat = self.seats.get(address)
        pid = seat.controller() if seat is not None else None
        if pid is not None:
            send(pid, signal.SIGKILL)
            await until(lambda: _is_gone(pid), within=5, every=0.002)

    async def leader(self) -> Seat | None:
        """Who holds the Lease."""
        with suppress(ClusterError):
            holder = (await self._cluster.get(LEASES, NAMESPACE, names.LEADER_LEASE))["spec"].get("holderIdentity")
            return next((seat for seat in self.seats.values() if seat.pod == holder), None)
        return None

    def thaw(self) -> None:
        """Let everything run that was stopped."""
        for seat in self.seats.values():
            for pid in (seat.shell, seat.controller()):
                if pid is not None:
                    send(pid, signal.SIGCONT)


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


async def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return _command(pid) == b""  # a process that waits to be reaped has none


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@asynccontextmanager
async def installed(cluster: Cluster, port: int, plant: str | None) -> AsyncIterator[Controllers]:
    """The release, and nothing of it afterwards."""
    await asyncio.to_thread(_remove)
    try:
        await asyncio.to_thread(_apply, port, plant)
        yield Controllers(cluster, await _seats(cluster))
    finally:
        await asyncio.shield(asyncio.to_thread(_remove))


def _apply(port: int, plant: str | None) -> None:
    kubectl.run("create", "namespace", NAMESPACE)
    kubectl.apply(*(_changed(manifest, plant) for manifest in _rendered(port)), *plants.manifests(NAMESPACE, plant))
    for deployment in (_CONTROLLER, _API):
        kubectl.run("-n", NAMESPACE, "rollout", "status", f"deployment/{deployment}", "--timeout=120s")


def _values() -> dict[str, Any]:
    """What hack/up has installed."""
    text = commands.run([*_HELM, "get", "values", RELEASE, "-n", INSTALLED_IN, "--output", "json"])
    found: dict[str, Any] = json.loads(text)
    return found


def _rendered(port: int) -> Iterator[JsonObject]:
    first = _values()
    values = {
        "image": first["image"],
        "defaultTaskImage": first["defaultTaskImage"],
        "crds": {"install": False},
        "defaultPool": {"enabled": False},
        "warmPool": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "api": {"persistence": {"enabled": False}},
        "controller": {"replicas": 2, "env": [
            {"name": "KUBERNETES_SERVICE_HOST", "value": network.NODE_ADDRESS},
            {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
        ]},
    }  # fmt: skip
    template: list[str | Path] = [
        *_HELM,
        "template",
        _NAME,
        CHART,
        "--namespace",
        NAMESPACE,
        "--no-hooks",
        "--kube-version",
        "1.37.0",
    ]
    text = commands.run([*template, "--values", "-"], stdin=json.dumps(values))
    return (manifest for manifest in yaml.safe_load_all(text[text.index("---") :]) if manifest)


def _changed(manifest: dict[str, Any], plant: str | None) -> dict[str, Any]:
    """The controllers' Deployment starts them again and again; the rest is as the chart has it."""
    if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == _CONTROLLER:
        pod = manifest["spec"]["template"]["spec"]
        container = pod["containers"][0]
        command = " ".join(container["command"])
        if plant is not None:
            command = plants.put_in(pod, plant)
        container["command"] = ["/bin/sh", "-c", _START_ANEW.format(command)]
    return manifest


async def _seats(cluster: Cluster) -> list[Seat]:
    pods, _ = await cluster.list(PODS, NAMESPACE, {"labelSelector": f"{names.ROLE}=controller"})
    shells = {pod: pid for pid, (pod, command) in _ours().items() if command.startswith(b"/bin/sh\0-c\0while true")}
    return [
        Seat(pod["metadata"]["name"], pod["status"]["podIP"], shells[pod["metadata"]["name"]])
        for pod in pods if "deletionTimestamp" not in pod["metadata"]
    ]  # fmt: skip


def processes_of(pod: str) -> list[int]:
    """The processes of a pod of ours that were told the pod's name: controllers, apis and agents, but no tests."""
    return [pid for pid, (name, _) in _ours().items() if name == pod]


def processes_with(words: bytes) -> list[int]:
    """The processes of our pods with these words in their command."""
    return [pid for pid, (_, command) in _ours().items() if words in command]


def _ours() -> dict[int, tuple[str, bytes]]:
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                variables = dict(line.partition(b"=")[::2] for line in (place / "environ").read_bytes().split(b"\0"))
                if variables.get(b"DAWG_NAMESPACE") == NAMESPACE.encode() and b"DAWG_POD" in variables:
                    found[int(place.name)] = variables[b"DAWG_POD"].decode(), (place / "cmdline").read_bytes()
    return found


def _remove() -> None:
    """Whatever state it is in."""
    if not commands.succeeds(kubectl.command("get", "namespace", NAMESPACE)):
        return
    here = ("-n", NAMESPACE)
    owners = "testruns.dawg.dev,agentpools.dawg.dev,deployments,jobs"
    commands.succeeds(kubectl.command(*here, "delete", owners, "--all", "--wait=false"))
    commands.succeeds(kubectl.command(*here, "delete", "pods", "--all", "--grace-period=0", "--force"))
    commands.succeeds(kubectl.command("delete", _CLUSTER_WIDE, "-l", f"app.kubernetes.io/instance={_NAME}"))
    commands.succeeds(kubectl.command("delete", "namespace", NAMESPACE, "--timeout=60s"))


def test_image() -> str:
    """The image in which tests run."""
    return str(_values()["defaultTaskImage"])


def product() -> str:
    """What tells one product under test from another: its images."""
    image = _values()["image"]
    return f"{image['operator']['tag']} {image['agent']['tag']}"
