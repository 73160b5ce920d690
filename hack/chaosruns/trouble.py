"""What happens to processes, pods, the network and the store, rather than to a call."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from chaosruns import faults
from chaosruns.eventually import until
from chaosruns.place import NAMESPACE, Controllers, Seat, processes_of, processes_with, send
from chaosruns.proxy import Proxy
from dawg_orchestrator.cluster.client import PODS, Cluster, JsonObject
from dawg_orchestrator.errors import ClusterError
from dawg_orchestrator.resources import names
from localcluster import commands, control_plane, kubectl, network, processes
from localcluster.processes import Component

_LEASE_SECONDS = 15.0
_TAKEOVER_SECONDS = 7.0
_TABLE = "dawg-chaos"
_API = b"dawg_orchestrator\0api"


@dataclass(frozen=True)
class Scene:
    """What trouble is made with."""

    cluster: Cluster
    controllers: Controllers
    proxy: Proxy


@dataclass(frozen=True)
class Trouble:
    """``make`` returns when the fault is over; ``more`` is work that the load then has besides the usual."""

    make: Callable[[Scene], Awaitable[None]]
    more: tuple[str, ...] = field(default=())


async def _leader(scene: Scene) -> Seat:
    seat: Seat | None = None

    async def found() -> bool:
        nonlocal seat
        seat = await scene.controllers.leader()
        return seat is not None and seat.controller() is not None

    await until(found, within=30)
    assert seat is not None  # noqa: S101
    return seat


async def kill_leader(scene: Scene) -> None:
    """The leader dies and is there again at once."""
    await scene.controllers.kill((await _leader(scene)).address)


async def leader_stays_away(scene: Scene) -> None:
    """The leader dies and does not come back for a while: the other one takes over when the Lease has expired."""
    seat = await _leader(scene)
    send(seat.shell, signal.SIGSTOP)
    await scene.controllers.kill(seat.address)
    await asyncio.sleep(_TAKEOVER_SECONDS)
    send(seat.shell, signal.SIGCONT)


async def kill_both(scene: Scene) -> None:
    """Nobody leads for a moment."""
    await asyncio.gather(*(scene.controllers.kill(address) for address in scene.controllers.seats))


async def freeze_leader(scene: Scene) -> None:
    """The leader sleeps until another one has taken over, and wakes believing that it leads."""
    pid = (await _leader(scene)).controller()
    if pid is not None:
        send(pid, signal.SIGSTOP)
        await asyncio.sleep(_TAKEOVER_SECONDS)
        send(pid, signal.SIGCONT)


async def stop_leader(scene: Scene) -> None:
    """The leader is asked to end."""
    pid = (await _leader(scene)).controller()
    if pid is not None:
        send(pid, signal.SIGTERM)


async def storm(scene: Scene, fault: faults.Fault, seconds: float) -> None:
    """Every call of every controller gets this."""
    scene.proxy.all_calls = fault
    await asyncio.sleep(seconds)
    scene.proxy.all_calls = None


async def silent_watches(scene: Scene) -> None:
    """All watches stand, and none says anything."""
    scene.proxy.watches_speak.clear()
    await asyncio.sleep(faults.SILENT_SECONDS)
    scene.proxy.watches_speak.set()


async def _agent(scene: Scene, pool: str) -> JsonObject:
    """A pod of the pool's agents that has an address."""
    found: list[JsonObject] = []

    async def one() -> bool:
        selector = {"labelSelector": f"{names.ROLE}=agent,{names.POOL}={pool}"}
        pods, _ = await scene.cluster.list(PODS, NAMESPACE, selector)
        found[:] = [pod for pod in pods if pod["status"].get("podIP") and "deletionTimestamp" not in pod["metadata"]]
        return bool(found)

    await until(one, within=60)
    return found[0]


async def partition_agent(scene: Scene) -> None:
    """An agent and the controllers do not reach each other for longer than a lease lasts."""
    pod = (await _agent(scene, "warm"))["status"]["podIP"]
    controllers = ", ".join(scene.controllers.seats)
    rules = f"""table ip {_TABLE} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ip saddr {pod} ip daddr {{ {controllers} }} drop
        ip saddr {{ {controllers} }} ip daddr {pod} drop
    }}
}}
"""
    await asyncio.to_thread(commands.run, [*network.ENTER, "nft", "--file", "-"], stdin=rules)
    try:
        await asyncio.sleep(_LEASE_SECONDS + 8)
    finally:
        await asyncio.to_thread(heal)


def heal() -> None:
    """End a partition."""
    commands.succeeds([*network.ENTER, "nft", "delete", "table", "ip", _TABLE])


async def freeze_agent(scene: Scene) -> None:
    """An agent sleeps longer than its leases last; its slots do not."""
    pids = processes_of((await _agent(scene, "warm"))["metadata"]["name"])
    for pid in pids:
        send(pid, signal.SIGSTOP)
    await asyncio.sleep(_LEASE_SECONDS + 8)
    for pid in pids:
        send(pid, signal.SIGCONT)


async def kill_agent(scene: Scene) -> None:
    """An agent's process dies; the kubelet starts it again."""
    for pid in processes_of((await _agent(scene, "warm"))["metadata"]["name"]):
        send(pid, signal.SIGKILL)


async def kill_job_agent(scene: Scene) -> None:
    """The agent that supervises Jobs is deleted, at once and with its pod."""
    pod = (await _agent(scene, "job"))["metadata"]["name"]
    await _kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


async def delete_warm_agent(scene: Scene) -> None:
    """A warm agent's pod is deleted, at once."""
    pod = (await _agent(scene, "warm"))["metadata"]["name"]
    await _kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


async def _evict(scene: Scene, pods: list[JsonObject]) -> None:
    for pod in pods:
        name = pod["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE},
                "deleteOptions": {"gracePeriodSeconds": 1}}  # fmt: skip
        with suppress(ClusterError):
            await scene.cluster.create_subresource(PODS, NAMESPACE, name, "eviction", body)


async def evict_tests(scene: Scene) -> None:
    """The pods of Jobs are evicted."""
    pods, _ = await scene.cluster.list(PODS, NAMESPACE, {"labelSelector": f"{names.ROLE}=task"})
    await _evict(scene, [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")])


async def drain_node(scene: Scene) -> None:
    """The node takes nothing new and everything of ours is evicted; then it is back, as soon as the scheduler knows."""
    await _kubectl("cordon", "dawg")
    try:
        for role in ("agent", "task"):
            pods, _ = await scene.cluster.list(PODS, NAMESPACE, {"labelSelector": f"{names.ROLE}={role}"})
            await _evict(scene, pods)
        await asyncio.sleep(2)
    finally:
        await _kubectl("uncordon", "dawg")
    await until(lambda: _all_placed(scene), within=30)


async def _all_placed(scene: Scene) -> bool:
    """Whether each of our pods has a node: the scheduler pauses for seconds after it found none for some."""
    pods, _ = await scene.cluster.list(PODS, NAMESPACE)
    return all(pod["spec"].get("nodeName") for pod in pods)


async def kill_api(_: Scene) -> None:
    """The store's process dies; the kubelet starts it again."""
    for pid in processes_with(_API):
        send(pid, signal.SIGKILL)


async def freeze_api(_: Scene) -> None:
    """The store does not answer."""
    pids = processes_with(_API)
    for pid in pids:
        send(pid, signal.SIGSTOP)
    await asyncio.sleep(8)
    for pid in pids:
        send(pid, signal.SIGCONT)


async def fill_store(_: Scene) -> None:
    """The store takes nothing more, as on a full disk; then it does again."""
    await _kubectl("set", "env", "deployment/chaos-dawg-api", "DAWG_FREE_SPACE_FLOOR=1000000000000000")
    await _kubectl("rollout", "status", "deployment/chaos-dawg-api", "--timeout=60s")
    await asyncio.sleep(2)
    await _kubectl("set", "env", "deployment/chaos-dawg-api", "DAWG_FREE_SPACE_FLOOR-")


async def restart_etcd(_: Scene) -> None:
    """etcd is killed and started again."""
    running = processes.record_of("etcd")
    components = (control_plane.etcd(fsync) for fsync in (False, True))
    same = (one for one in components if running is not None and one.fingerprint() == running.fingerprint)
    await asyncio.to_thread(_restart, next(same))


async def restart_apiserver(_: Scene) -> None:
    """The apiserver is killed and started again."""
    await asyncio.to_thread(_restart, control_plane.apiserver())


def _restart(component: Component) -> None:
    record = processes.record_of(component.name)
    if record is not None:
        send(record.pid, signal.SIGKILL)
    processes.stop(component.name, 0)
    processes.ensure(component)
    ready = kubectl.command("get", "--raw", "/readyz")
    processes.wait_for("the apiserver", lambda: commands.succeeds(ready), [component], 60)


async def _kubectl(*words: str) -> None:
    await asyncio.to_thread(commands.succeeds, kubectl.command("-n", NAMESPACE, *words))


def _storm(fault: faults.Fault, seconds: float) -> Callable[[Scene], Awaitable[None]]:
    return lambda scene: storm(scene, fault, seconds)


# What happens to processes, pods, the network and the store, by name.
TROUBLES: dict[str, Trouble] = {
    "kill-leader": Trouble(kill_leader, ("long",)),
    "leader-stays-away": Trouble(leader_stays_away),
    "kill-both": Trouble(kill_both),
    "freeze-leader": Trouble(freeze_leader, ("long",)),
    "stop-leader": Trouble(stop_leader),
    "storm-429": Trouble(_storm(faults.too_many, 5)),
    "storm-500": Trouble(_storm(faults.broken, 5)),
    "unreachable": Trouble(_storm(faults.drop, 5)),
    "silent-watches": Trouble(silent_watches),
    "partition-agent": Trouble(partition_agent, ("open",)),
    "freeze-agent": Trouble(freeze_agent, ("open",)),
    "kill-agent": Trouble(kill_agent, ("long",)),
    "kill-job-agent": Trouble(kill_job_agent, ("podalone",)),
    "delete-warm-agent": Trouble(delete_warm_agent, ("long",)),
    "evict-tests": Trouble(evict_tests, ("podalone",)),
    "drain-node": Trouble(drain_node, ("podalone",)),
    "kill-api": Trouble(kill_api),
    "freeze-api": Trouble(freeze_api),
    "fill-store": Trouble(fill_store),
    "fill-workspace": Trouble(kill_leader, ("disk",)),
    "restart-etcd": Trouble(restart_etcd),
    "restart-apiserver": Trouble(restart_apiserver),
    "memory": Trouble(kill_leader, ("memory",)),
}
