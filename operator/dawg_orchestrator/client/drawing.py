"""`dawg graph`: the graph of a Workflow or of a run."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import NotFound

if TYPE_CHECKING:
    from dawg_orchestrator.client.connection import Cluster
    from dawg_orchestrator.client.door import Door
    from dawg_orchestrator.client.view_graph import Drawing

_RUN, _WORKFLOW = "run/", "workflow/"


class Format(StrEnum):
    """What other programs draw."""

    DOT = "dot"
    MERMAID = "mermaid"


def graph(
    target: Target,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A Workflow, else a TestRun; run/NAME and workflow/NAME say which.")
    ],
    format: Annotated[  # noqa: A002
        Format | None, typer.Option("--format", help="For Graphviz, or for pages in Markdown.")
    ] = None,
) -> None:
    """Draw the graph of a Workflow, or of a run with how far it has come."""
    from dawg_orchestrator.client import view_graph
    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.printing import print_json, print_line, print_view

    with opened(target) as (cluster, door):
        drawing = _find(cluster, door, name)
    if target.wants_json:
        print_json(view_graph.graph_json(drawing))
    elif format is not None:
        print_line(view_graph.graph_dot(drawing) if format is Format.DOT else view_graph.graph_mermaid(drawing))
    else:
        print_view(view_graph.graph_view(drawing, plain=not _can_draw()))


def _find(cluster: Cluster, door: Door, name: str) -> Drawing:
    """A Workflow is meant first: people give it its name, while most runs get theirs."""
    if name.startswith(_RUN):
        return _of_run(cluster, door, name.removeprefix(_RUN))
    if name.startswith(_WORKFLOW):
        return _of_workflow(cluster, name.removeprefix(_WORKFLOW))
    try:
        return _of_workflow(cluster, name)
    except NotFound as no_workflow:
        try:
            return _of_run(cluster, door, name)
        except NotFound:
            message = f"namespace {cluster.namespace!r} has no Workflow and no TestRun {name!r}"
            told = f"{message}; `dawg workflows` and `dawg status` list those it has"
            raise NotFound(told, no_workflow.status) from None


def _of_workflow(cluster: Cluster, name: str) -> Drawing:
    from dawg_orchestrator.client.graphs import STAGES, nodes_of
    from dawg_orchestrator.client.view_graph import Drawing
    from dawg_orchestrator.client.workflows import get_workflow

    spec: dict[str, Any] = get_workflow(cluster, cluster.namespace, name).get("spec") or {}
    tasks = [(stage, task) for stage in STAGES for task in spec.get(stage) or ()]
    stages = {str(task["name"]): stage for stage, task in tasks}
    nodes = nodes_of([task for _, task in tasks], stages)
    return Drawing("Workflow", cluster.namespace, name, f"{len(nodes)} tasks", nodes)


def _of_run(cluster: Cluster, door: Door, name: str) -> Drawing:
    from dawg_orchestrator.client.contents import content_of
    from dawg_orchestrator.client.graphs import nodes_of
    from dawg_orchestrator.client.recorded import find_run
    from dawg_orchestrator.client.view_graph import Drawing
    from dawg_orchestrator.client.wording import progress, state_of

    run, _ = find_run(cluster, door, cluster.namespace, name)
    content = content_of(cluster, run)
    if content is None:
        raise CommandFailed(f"TestRun {name} has no tasks yet: see `dawg why {name}`", USAGE)
    done, total = progress(run)
    workflow = (run.spec.get("workflowRef") or {}).get("name")
    of = f"of Workflow {workflow}, " if workflow else ""
    nodes = nodes_of(content.tasks, content.stages, run)
    return Drawing("TestRun", cluster.namespace, name, f"{of}{state_of(run)}, {done}/{total} tasks", nodes)


def _can_draw() -> bool:
    """Whether what reads the output knows the signs that are drawn with."""
    try:
        "●✔│╰─".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
