"""`dawg status`, `queue`, `history`, `metrics`, `version`: what people look at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dawg_orchestrator import __version__
from dawg_orchestrator.client.exits import GAVE_UP, CommandFailed, DoorClosed
from dawg_orchestrator.client.target import Target
from dawg_orchestrator.errors import ClusterError, DawgError

AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces that the release watches.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most so many.")]


def status(
    target: Target,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One TestRun, whole.")] = None,
    limit: Limit = 20,
) -> None:
    """Show pools and runs, or one run whole: verdict, why, tasks, failures."""
    if name is None:
        _show_overview(target, limit)
    else:
        _show_run(target, name)


def queue(target: Target, *, all_namespaces: AllNamespaces = False) -> None:
    """Show the tasks that wait, in the order in which they will start, and why they wait."""
    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.view_lists import queue_view

    with opened(target) as (cluster, door):
        query = {} if all_namespaces else {"namespace": cluster.namespace}
        answer = door.get("/v1/queue", query)
    _show(target, answer, lambda: queue_view(entries_of(answer)))


def history(
    target: Target,
    *,
    name: Annotated[str | None, typer.Option(help="Only runs of this name.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only runs with this verdict, as in Failed.")] = None,
    limit: Limit = 20,
    all_namespaces: AllNamespaces = False,
) -> None:
    """Show finished runs, newest first, also those whose TestRun is deleted."""
    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.view_lists import history_view

    with opened(target) as (cluster, door):
        query = {"limit": str(limit)} | ({} if all_namespaces else {"namespace": cluster.namespace})
        query |= {key: value for key, value in (("name", name), ("verdict", verdict)) if value is not None}
        answer = door.get("/v1/history", query)
    _show(target, answer, lambda: history_view(entries_of(answer), datetime.now(UTC)))


def metrics(target: Target, *, all_namespaces: AllNamespaces = False) -> None:
    """Show total tasks, success rate, average duration, active agents, queued tasks and agent utilization."""
    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.view_lists import metrics_view

    with opened(target) as (cluster, door):
        answer = door.get("/v1/metrics", {} if all_namespaces else {"namespace": cluster.namespace})
    _show(target, answer, lambda: metrics_view(answer))


def version(
    target: Target, *, client: Annotated[bool, typer.Option("--client", help="Ask no cluster.")] = False
) -> None:
    """Show the versions of this command and of the release in the cluster."""
    from dawg_orchestrator.client.printing import print_json, print_line

    answer: dict[str, Any] = {"client": __version__}
    problem: DawgError | None = None
    if not client:
        from dawg_orchestrator.client.door import opened

        try:
            with opened(target) as (_, door):
                answer["server"] = door.get("/v1/version").get("version")
        except (DoorClosed, ClusterError) as error:
            answer["server"], problem = None, error
    if target.wants_json:
        print_json(answer)
    else:
        from dawg_orchestrator.client.terminal import one_line

        for who, what in answer.items():
            print_line(f"{who}: {one_line(what or 'not known')}")
    if problem is not None:
        raise CommandFailed(f"the server's version is not known: {problem}", GAVE_UP)


def entries_of(answer: Any) -> list[dict[str, Any]]:
    """The list in an answer: the answer itself, or its only list."""
    if isinstance(answer, list):
        return answer
    return next((value for value in answer.values() if isinstance(value, list)), []) if isinstance(answer, dict) else []


def _show_overview(target: Target, limit: int) -> None:
    from rich.console import Group

    from dawg_orchestrator.client.connection import connect, resource_path
    from dawg_orchestrator.client.testruns import list_runs
    from dawg_orchestrator.client.view_lists import pools_view, runs_view

    with connect(target) as cluster:
        runs = list_runs(cluster, cluster.namespace)
        pools = cluster.items(resource_path("agentpools", cluster.namespace))
    shown, left_out = runs[:limit], max(0, len(runs) - limit)
    _show(
        target,
        {"pools": pools, "runs": [run.raw for run in shown]},
        lambda: Group(
            pools_view(pools, cluster.namespace),
            "",
            runs_view(shown, cluster.namespace, datetime.now(UTC), left_out=left_out),
        ),
    )


def _show_run(target: Target, name: str) -> None:
    from dawg_orchestrator.client.door import opened
    from dawg_orchestrator.client.recorded import find_run
    from dawg_orchestrator.client.view_run import run_view

    with opened(target) as (cluster, door):
        run, _ = find_run(cluster, door, cluster.namespace, name)
    _show(target, run.raw, lambda: run_view(run, datetime.now(UTC)))


def _show(target: Target, answer: Any, view: Any) -> None:
    from dawg_orchestrator.client.printing import print_json, print_view

    if target.wants_json:
        print_json(answer)
    else:
        print_view(view())
