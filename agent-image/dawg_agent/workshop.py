"""What an agent needs to run tasks in its own pod, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from dawg_agent.kube import JsonObject, Kube
from dawg_agent.settings import AgentSettings
from dawg_agent.slots import Slots
from dawg_agent.trees import Trees
from dawg_agent.upload import Door
from dawg_agent.warm import Workshop
from dawg_orchestrator.errors import ClusterError

_KUBELET_TELLS_WITHIN = 4.0  # seconds from a container's end to its word of it in the pod's status
_LOOK_AGAIN = 0.3


@asynccontextmanager
async def open_workshop(settings: AgentSettings, kube: Kube, door: Door) -> AsyncIterator[Workshop]:
    """Slots whose runners may connect, a cache of trees, and scratch space."""
    warm = settings.warm
    assert warm is not None  # noqa: S101
    scratch = warm.cache_dir / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    slots = Slots(warm.slots_dir, settings.slots)
    trees = Trees(warm.cache_dir / "trees", warm.cache_bytes)

    async def ran_out_of_memory(slot: int, since: datetime) -> bool:
        return await _ran_out_of_memory(kube, settings.pod, f"runner-{slot}", since)

    async with contextlib.AsyncExitStack() as stack:
        await slots.open()
        stack.push_async_callback(slots.close)
        yield Workshop(slots, trees, door, scratch, warm.git_secrets_dir, warm.node, ran_out_of_memory)


async def _ran_out_of_memory(kube: Kube, pod: str, container: str, since: datetime) -> bool:
    """Whether the kubelet says that the container ended for its memory since then; it takes a moment to say so."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _KUBELET_TELLS_WITHIN
    while True:
        with contextlib.suppress(ClusterError):
            end = _last_end(await kube.pod(pod), container)
            if end is not None and _finished(end) >= since - timedelta(seconds=1):
                return str(end.get("reason")) == "OOMKilled"
        if loop.time() > until:
            return False
        await asyncio.sleep(_LOOK_AGAIN)


def _last_end(pod: JsonObject, container: str) -> JsonObject | None:
    """How the container ended last, if it ever did."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status["name"] == container:
            states = (status.get("state") or {}, status.get("lastState") or {})
            return next((state["terminated"] for state in states if "terminated" in state), None)
    return None


def _finished(end: JsonObject) -> datetime:
    return datetime.fromisoformat(str(end.get("finishedAt") or "1970-01-01T00:00:00+00:00")).astimezone(UTC)
