"""A graph of tasks, laid out: what may run at the same time, in which lane each line goes. Pure."""

from __future__ import annotations

import graphlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.client.wording import state_of_task
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.testrun import TaskStatus
from dawg_orchestrator.resources.verdict import BY_LETTER, Verdict

MAIN = "tasks"
STAGES = (MAIN, "onFailure", "finally")
NODE = "*"  # stands for a task in its row; the view puts the task's own sign there
MOST_LANES = 12
_BAD_FIRST = ("Failed", "TimedOut", "InfraError", "Cancelled", "Flaky", "Passed", "Skipped")


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A task, with what came of it where it is a run's."""

    name: str
    stage: str = MAIN
    layer: int = 0
    needs: tuple[str, ...] = ()
    uses: str | None = None
    when: str | None = None
    cells: int = 1
    state: str | None = None  # None: nothing has run yet, it is a Workflow's
    done: int = 0  # of the cells
    reason: str = ""


def nodes_of(tasks: Sequence[Mapping[str, Any]], stages: Mapping[str, str], run: Run | None = None) -> list[Node]:
    """The tasks in the order in which they can run, stage by stage; InvalidSpec for a graph that cannot be."""
    _check_names(tasks, stages)
    layers = _layers(tasks)
    told = _states(tasks, run) if run is not None else {}
    nodes = [
        Node(
            name=task["name"], stage=stages.get(task["name"], MAIN), layer=layers[task["name"]],
            needs=tuple(dict.fromkeys(task.get("needs") or ())), uses=task.get("uses"), when=task.get("when"),
            cells=cells_of(task), **told.get(task["name"], {}),
        )
        for task in tasks
    ]  # fmt: skip
    return sorted(nodes, key=lambda node: (STAGES.index(node.stage), node.layer))


def cells_of(task: Mapping[str, Any]) -> int:
    """How many cells matrix and shards make of a task."""
    shards = (task.get("shards") or {}).get("count") or 1
    return int(math.prod(len(values) for values in (task.get("matrix") or {}).values()) * shards)


def letters_of(tasks: Iterable[Mapping[str, Any]], letters: str) -> dict[str, str]:
    """The part of ``status.taskVerdicts`` that belongs to each task; none where status does not fit the tasks."""
    found, start = {}, 0
    for task in tasks:
        end = start + cells_of(task)
        found[str(task["name"])] = letters[start:end]
        start = end
    return found if start == len(letters) else {}


def _check_names(tasks: Sequence[Mapping[str, Any]], stages: Mapping[str, str]) -> None:
    """Of a Workflow that is not ready anything may be wrong."""
    place: dict[str, int] = {}
    for task in tasks:
        if task["name"] in place:
            raise InvalidSpec("tasks", f"two tasks are named {task['name']!r}")
        place[task["name"]] = STAGES.index(stages.get(task["name"], MAIN))
    for task in tasks:
        later = [need for need in task.get("needs") or () if place.get(need, 0) > place[task["name"]]]
        if later:
            message = f"it needs {later[0]!r}, a task of {STAGES[place[later[0]]]}, which comes later"
            raise InvalidSpec(f"tasks[{task['name']}].needs", message)


def _layers(tasks: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many tasks stand at most between each task and the beginning."""
    needs = {str(task["name"]): list(task.get("needs") or ()) for task in tasks}
    for name, wanted in needs.items():
        for need in wanted:
            if need not in needs:
                raise InvalidSpec(f"tasks[{name}].needs", f"no task is named {need!r}")
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise InvalidSpec("needs", f"the tasks need each other in a circle: {circle}") from error
    layers: dict[str, int] = {}
    for name in order:
        layers[name] = 1 + max((layers[need] for need in needs[name]), default=-1)
    return layers


def _states(tasks: Sequence[Mapping[str, Any]], run: Run) -> dict[str, dict[str, Any]]:
    """What status says of each task: its worst cell, and the reason of that one."""
    letters = letters_of(tasks, run.status.task_verdicts or "")
    entries: dict[str, list[TaskStatus]] = {}
    for entry in run.status.tasks:
        entries.setdefault(entry.name, []).append(entry)
    return {
        str(task["name"]): _state(letters.get(task["name"], ""), entries.get(task["name"], ()), run)
        for task in tasks
    }  # fmt: skip


def _state(letters: str, entries: Sequence[TaskStatus], run: Run) -> dict[str, Any]:
    verdicts = [str(BY_LETTER[letter]) for letter in letters if letter in BY_LETTER]
    if letters and len(verdicts) == len(letters):
        state = min(verdicts, key=_BAD_FIRST.index)
    elif run.status.verdict is not None:
        state = str(Verdict.SKIPPED)  # the run ended before it had tasks
    elif any(state_of_task(entry) == "Running" for entry in entries):
        state = "Running"
    else:
        state = "Waiting"
    reason = next((entry.reason for entry in entries if state_of_task(entry) == state and entry.reason), "")
    return {"state": state, "done": len(verdicts), "reason": reason}


# Lanes: each task that others wait for holds one, from its row down to the row of the last that needs it


@dataclass(frozen=True, slots=True)
class Row:
    """The lines left of a task, ``NODE`` where the task itself is, and those that come down from above."""

    lines: str
    above: str


def rows_of(nodes: Sequence[Node]) -> list[Row] | None:
    """A row for each task, all of one width.

    None when more than ``MOST_LANES`` lie side by side: nobody can follow them then.
    """
    waiting = Counter(need for node in nodes for need in node.needs)
    lanes: list[str | None] = []
    rows: list[Row] = []
    at: int | None = None
    for position, node in enumerate(nodes):
        if position and nodes[position - 1].stage != node.stage:
            at = None  # a heading stands between
        above = " ".join("│" if name is not None else " " for name in lanes)
        at, closing = _place(node, lanes, waiting, at)
        if at >= MOST_LANES:
            return None
        rows.append(Row(_lines(node, at, closing, lanes), above))
        for index in closing:
            lanes[index] = None
        lanes[at] = node.name if waiting[node.name] else None
    width = max((len(row.lines) for row in rows), default=0)
    return [Row(row.lines.ljust(width), row.above.ljust(width)) for row in rows]


def _place(node: Node, lanes: list[str | None], waiting: Counter[str], below: int | None) -> tuple[int, list[int]]:
    """The task's lane: that of a task that nobody else waits for, or a free one; and the lanes that end here.

    It is not the lane ``below`` the task before, which is free too: they would look as if one needed the other.
    """
    closing = []
    for need in node.needs:
        waiting[need] -= 1
        if not waiting[need]:
            closing.append(lanes.index(need))
    if closing:
        return min(closing), closing
    free = [index for index, name in enumerate(lanes) if name is None and index != below]
    if not free:
        free.append(len(lanes))
        lanes.append(None)
    return free[0], closing


def _lines(node: Node, at: int, closing: Sequence[int], lanes: Sequence[str | None]) -> str:
    needed = {index for index, name in enumerate(lanes) if name is not None and name in node.needs}
    first, last = min({at, *needed}), max({at, *needed})
    signs = [_sign(index, at, first, last, needed, closing, lanes) for index in range(len(lanes))]
    return "".join(_spread(signs, first, last)).rstrip()


def _sign(
    index: int, at: int, first: int, last: int, needed: set[int], closing: Sequence[int], lanes: Sequence[str | None]
) -> str:
    if index == at:
        return NODE
    if index not in needed:
        # A line that crosses another one goes over it: the two have nothing to do with each other.
        return "│" if lanes[index] is not None else "─" if first < index < last else " "
    edge = 0 if index == first else 2 if index == last else 1
    return ("╰┴╯" if index in closing else "├┼┤")[edge]


def _spread(signs: Sequence[str], first: int, last: int) -> Iterator[str]:
    for index, sign in enumerate(signs):
        yield sign
        yield "─" if first <= index < last else " "
