"""How soon the second controller works when the first is killed: from the kill to the next test's first instruction."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import usage
from benchmarks.clock import now_ms, stamp_ms
from benchmarks.figures import Figure, Part, median
from benchmarks.logs import api
from benchmarks.place import NAMESPACE, Place
from benchmarks.starts import STAMP, warm_run
from dawg_orchestrator.cluster.client import LEASES
from localcluster import kubectl

_DEPLOYMENT = "deployment/dawg-controller"
_LEASE = "dawg-leader"


async def measure(place: Place, pool: str, rounds: int, tell: Callable[[str], None]) -> Part:
    """Kill the leader with SIGKILL, create a run, and again once there are two controllers."""
    kills: dict[str, float] = {}
    with _two_controllers():
        for number in range(1, rounds + 1):
            tell(f"kill {number} of {rounds}")
            lease = await place.cluster.get(LEASES, NAMESPACE, _LEASE)
            killed = _kill(lease["spec"]["holderIdentity"])
            name, _, _ = await warm_run(place, pool, STAMP)
            kills[name] = killed
            _await_rollout()
        tell("reading the stamps")
        with api() as door:
            took = [(stamp_ms(door.run_log(name)) - killed) / 1000 for name, killed in kills.items()]
    slowest = max(took)
    figure = Figure(
        "takeover", "leader killed → first instruction of a test that came then",
        f"{', '.join(f'{seconds:.1f}' for seconds in sorted(took))} s", "", slowest,
        f"{median(took):.1f} s, {slowest:.1f} s at worst", "≤ 5 s",
    )  # fmt: skip
    return Part([figure], {"takeover_s": took})


@contextmanager
def _two_controllers() -> Iterator[None]:
    replicas = kubectl.run("--namespace", NAMESPACE, "get", _DEPLOYMENT, "--output", "jsonpath={.spec.replicas}")
    _scale("2")
    try:
        yield
    finally:
        _scale(replicas)


def _scale(replicas: str) -> None:
    kubectl.run("--namespace", NAMESPACE, "scale", _DEPLOYMENT, f"--replicas={replicas}")
    _await_rollout()


def _await_rollout() -> None:
    kubectl.run("--namespace", NAMESPACE, "rollout", "status", _DEPLOYMENT, "--timeout=180s")


def _kill(pod: str) -> float:
    """End the controller of that pod as the kernel would for memory; when (ms) that was."""
    process = usage.controller_in(pod)
    if process is None:
        raise RuntimeError(f"the controller in pod {pod} cannot be seen from here")
    at = now_ms()
    os.kill(int(process.name), signal.SIGKILL)
    return at
