"""A graph as people read it in a terminal, and as other programs draw it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from dawg_orchestrator.client.graphs import MAIN, NODE, Node, rows_of
from dawg_orchestrator.client.terminal import one_line
from dawg_orchestrator.client.wording import style_of

HEADINGS = {
    "onFailure": "onFailure: when a task above did not pass",
    "finally": "finally: at the very end, whatever came of the others",
}
_SIGNS = {
    None: "●", "Passed": "✔", "Flaky": "≈", "Failed": "✘", "TimedOut": "✘", "InfraError": "!", "Cancelled": "⊘",
    "Skipped": "○", "Running": "▶", "Waiting": "·",
}  # fmt: skip
_PLAIN = str.maketrans("●✔≈✘⊘○▶·│─├┤┼╰╯┴←…", "*+~x-o>.|-+++`'-<~")
_NAMED_NEEDS = 4


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn: a Workflow or a run, and its tasks."""

    kind: str
    namespace: str
    name: str
    about: str  # what is said beside its name
    nodes: Sequence[Node]


def graph_view(drawing: Drawing, *, plain: bool = False) -> RenderableType:
    """Top to bottom: each task below those that it needs, joined to them by lines; lists where those are too many."""
    lines = [Text.assemble((f"{drawing.kind} {one_line(drawing.namespace)}/{one_line(drawing.name)}", "bold"))]
    lines[0].append(f"  {one_line(drawing.about)}")
    lines += [Text(""), *(_drawn(drawing.nodes) or _listed(drawing.nodes))]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
        if plain:
            line.plain = line.plain.translate(_PLAIN)
    return Group(*lines)


def graph_json(drawing: Drawing) -> dict[str, Any]:
    """For programs."""
    tasks = [
        {
            "name": node.name, "stage": node.stage, "layer": node.layer, "needs": list(node.needs), "uses": node.uses,
            "when": node.when, "cells": node.cells, "state": node.state, "reason": node.reason or None,
        }
        for node in drawing.nodes
    ]  # fmt: skip
    return {"kind": drawing.kind, "namespace": drawing.namespace, "name": drawing.name, "tasks": tasks}


def graph_dot(drawing: Drawing) -> str:
    """For Graphviz."""
    lines = [f"digraph {_quoted(drawing.name)} {{", "  node [shape=box];"]
    lines += [f"  {_quoted(node.name)} [label={_quoted(_label(node))}];" for node in drawing.nodes]
    lines += [f"  {_quoted(need)} -> {_quoted(node.name)};" for node in drawing.nodes for need in node.needs]
    return "\n".join([*lines, "}"])


def graph_mermaid(drawing: Drawing) -> str:
    """For pages in Markdown. Names stand as text only: some of them are words of the language."""
    ids = {node.name: f"t{position}" for position, node in enumerate(drawing.nodes)}
    lines = ["flowchart TD"]
    for stage in dict.fromkeys(node.stage for node in drawing.nodes):
        boxes = [f"{ids[node.name]}[{_quoted(_label(node))}]" for node in drawing.nodes if node.stage == stage]
        lines += [f"  {box}" for box in boxes] if stage == MAIN else [f"  subgraph {stage}", *_indented(boxes), "  end"]
    lines += [f"  {ids[need]} --> {ids[node.name]}" for node in drawing.nodes for need in node.needs]
    return "\n".join(lines)


def _drawn(nodes: Sequence[Node]) -> list[Text] | None:
    rows = rows_of(nodes)
    if rows is None:
        return None
    lines: list[Text] = []
    stage = MAIN
    for node, row in zip(nodes, rows, strict=True):
        if node.stage != stage:
            stage = node.stage
            lines += [Text(row.above.rstrip()), Text.assemble(row.above, " ", (HEADINGS[stage], "bold"))]
        before, _, after = row.lines.partition(NODE)
        lines.append(Text.assemble(before, _sign(node), after, "  ", _told(node)))
    return lines


def _listed(nodes: Sequence[Node]) -> Iterator[Text]:
    """Layer by layer, with what each task needs in words."""
    width = len(str(max((node.layer for node in nodes), default=0) + 1))
    stage, layer = MAIN, -1
    for node in nodes:
        if node.stage != stage:
            yield from (Text(""), Text(HEADINGS[node.stage], style="bold"))
        number = "" if (node.stage, node.layer) == (stage, layer) else str(node.layer + 1)
        stage, layer = node.stage, node.layer
        named = ", ".join(node.needs[:_NAMED_NEEDS])
        more = f" and {len(node.needs) - _NAMED_NEEDS} more" if len(node.needs) > _NAMED_NEEDS else ""
        needs = f"  ← {one_line(named)}{more}" if named else ""
        yield Text.assemble(number.rjust(width), "  ", _sign(node), "  ", _told(node), (needs, "dim"))


def _sign(node: Node) -> tuple[str, str]:
    return _SIGNS.get(node.state, "?"), style_of(node.state)


def _told(node: Node) -> Text:
    text = Text.assemble(one_line(node.name), (f" ({one_line(node.uses)})" if node.uses else "", "dim"))
    if node.cells > 1:
        text.append(f" x{node.cells}", style="dim")
    if node.state is not None:
        part = f" {node.done}/{node.cells}" if node.cells > 1 and node.state in ("Running", "Waiting") else ""
        text.append(f"  {node.state}{part}", style=style_of(node.state))
        if node.reason and node.reason != node.state:
            text.append(f" {one_line(node.reason)}", style="dim")
    elif node.when:
        text.append(f"  when {one_line(node.when)}", style="dim")
    return text


def _label(node: Node) -> str:
    uses = f" ({node.uses})" if node.uses else ""
    return (
        f"{node.name}{uses}" + (f" x{node.cells}" if node.cells > 1 else "") + (f": {node.state}" if node.state else "")
    )


def _quoted(text: str) -> str:
    return '"' + one_line(text).replace("\\", "\\\\").replace('"', "'") + '"'


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
