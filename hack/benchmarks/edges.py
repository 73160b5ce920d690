"""What one need costs: a chain of tasks that do nothing, beside a run of one such task."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.figures import Figure, Part, median, percentile
from benchmarks.place import Place, run_body
from benchmarks.starts import NOTHING
from dawg_orchestrator.cluster.client import TESTRUNS

_LENGTH = 50  # edges


async def measure(place: Place, pool: str, rounds: int, tell: Callable[[str], None]) -> Part:
    """Alternate: one task, and a chain; an edge is what the chain takes longer, by its edges."""
    edges = []
    for number in range(1, rounds + 1):
        tell(f"chain {number} of {rounds}")
        alone = await _took(place, pool, 1)
        edges.append((await _took(place, pool, _LENGTH + 1) - alone) / _LENGTH)
    figure = Figure(
        "edge", f"one edge of a chain of {_LENGTH + 1} tasks, warm",
        f"{percentile(edges, 0.5):.1f} / {percentile(edges, 0.95):.1f} / {max(edges):.1f} ms", "", median(edges),
        f"{median(edges):.1f} ms", "≤ 5 ms",
    )  # fmt: skip
    return Part([figure], {"edge_ms": edges})


async def _took(place: Place, pool: str, length: int) -> float:
    tasks: list[dict[str, Any]] = [{**NOTHING, "name": f"task-{number}"} for number in range(length)]
    for before, task in pairwise(tasks):
        task["needs"] = [before["name"]]
    body = run_body(place, pool, tasks[0])
    body["spec"]["tasks"] = tasks
    begun = await place.create(TESTRUNS, body)
    (ended,) = await place.runs.until_ended(body["metadata"]["name"])
    return ended - begun
