"""A process of its own that does the least that any controller must: it watches, and writes a verdict.

    python -m benchmarks.answerer NAMESPACE LABEL=VALUE < status.json    prints "name milliseconds" for each

What it takes from a creation to its sight, and from there to a status that the client sees, is the floor of what a
controller outside the apiserver can reach.
"""

from __future__ import annotations

import asyncio
import json
import sys

from benchmarks.clock import now_ms
from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster, JsonObject
from dawg_orchestrator.cluster.credentials import find_credentials

READY = "ready"


async def _answer(namespace: str, selector: str, status: JsonObject) -> None:
    answering: set[asyncio.Task[None]] = set()
    async with Cluster(find_credentials(), user_agent="bench-answerer") as cluster:

        async def answer(name: str, version: str) -> None:
            await carry_out.write_status(cluster, TESTRUNS, namespace, name, int(version), status)

        _, version = await cluster.list(TESTRUNS, namespace)
        print(READY, flush=True)
        while True:
            async for kind, thing in cluster.watch(TESTRUNS, namespace, version, {"labelSelector": selector}):
                seen, metadata = now_ms(), thing["metadata"]
                version = metadata["resourceVersion"]
                if kind != "ADDED":
                    continue
                task = asyncio.create_task(answer(metadata["name"], version))
                answering.add(task)
                task.add_done_callback(answering.discard)
                print(metadata["name"], seen, flush=True)


if __name__ == "__main__":
    asyncio.run(_answer(sys.argv[1], sys.argv[2], json.load(sys.stdin)))
