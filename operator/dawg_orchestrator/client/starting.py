"""`dawg workflows`, `workflow`, `queue test`: what people start by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.running import Timeout
from dawg_orchestrator.client.target import Target

Priority = Annotated[str | None, typer.Option(help="critical, high, medium or low; else the Workflow's.")]


def workflows(target: Target) -> None:
    """Show the Workflows: what can be started by name, what came of it last, and why one is not ready."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.printing import print_json, print_view
    from dawg_orchestrator.client.view_workflows import workflows_view
    from dawg_orchestrator.client.workflows import list_workflows

    with connect(target) as cluster:
        found, namespace = list_workflows(cluster, cluster.namespace), cluster.namespace
    if target.wants_json:
        print_json({"workflows": found})
    else:
        print_view(workflows_view(found, namespace, datetime.now(UTC)))


def workflow(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The Workflow's name.")],
    *,
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=VALUE", help="A parameter. Repeatable.")
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Start nothing; show parameters and triggers.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its verdict.")] = True,
    timeout: Timeout = None,
    priority: Priority = None,
    pool: Annotated[str | None, typer.Option(help="AgentPool; else the Workflow's.")] = None,
    git: Annotated[str | None, typer.Option(metavar="URL", help="Repository to test.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Start a run of a Workflow and follow it to its verdict, which is the exit code."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.running import create_and_follow, read_duration
    from dawg_orchestrator.client.workflows import Asked, get_workflow, run_of

    limit = read_duration("--timeout", timeout)
    asked = Asked(parameters=param or (), priority=priority, pool=pool, git_url=git, revision=revision)
    with connect(target) as cluster:
        found = get_workflow(cluster, cluster.namespace, name)
        if describe:
            _describe(target, found)
        else:
            create_and_follow(target, cluster, run_of(found, asked), limit, wait=wait)


def queue_test(
    target: Target,
    suite: Annotated[str, typer.Option("--suite", help="The Workflows' label dawg.dev/suite.")],
    priority: Priority = None,
) -> None:
    """Start every Workflow of a suite; `dawg wait` follows a run to its verdict."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.printing import print_json, print_line
    from dawg_orchestrator.client.testruns import create_run
    from dawg_orchestrator.client.workflows import Asked, list_workflows, run_of
    from dawg_orchestrator.resources.names import SUITE

    started = []
    with connect(target) as cluster:
        found = list_workflows(cluster, cluster.namespace, suite)
        if not found:
            message = f"no Workflow in namespace {cluster.namespace!r} carries the label {SUITE}={suite}"
            raise CommandFailed(f"{message}; `dawg workflows` shows the suites there are", USAGE)
        # All or none: what is wrong with one of them is told before any has started.
        for manifest in [run_of(one, Asked(priority=priority)) for one in found]:
            run = create_run(cluster, manifest)
            started.append(run.raw)
            if not target.wants_json:
                print_line(f"testrun.dawg.dev/{run.name} created")
    if target.wants_json:
        print_json({"runs": started})


def _describe(target: Target, found: dict[str, object]) -> None:
    from dawg_orchestrator.client.printing import print_json, print_view
    from dawg_orchestrator.client.view_workflows import workflow_view

    if target.wants_json:
        print_json(found)
    else:
        print_view(workflow_view(found, datetime.now(UTC)))
