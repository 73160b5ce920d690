"""`dawg rerun`: repeat a run, whole or only what did not pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.running import Name, Timeout
from dawg_orchestrator.client.target import Target

if TYPE_CHECKING:
    from dawg_orchestrator.client.connection import Cluster, JsonObject
    from dawg_orchestrator.client.contents import Content
    from dawg_orchestrator.client.reruns import Choice
    from dawg_orchestrator.client.testruns import Run

_NAMED = 10


def rerun(
    target: Target,
    name: Name,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only what did not pass, and what that takes from others.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its verdict.")] = True,
    timeout: Timeout = None,
) -> None:
    """Repeat a run on the same commit and follow the new one to its verdict, which is the exit code."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.running import create_and_follow, read_duration
    from dawg_orchestrator.client.testruns import get_run

    limit = read_duration("--timeout", timeout)
    with connect(target) as cluster:
        run = get_run(cluster, cluster.namespace, name)
        manifest = _of_failed(cluster, run) if failed else _whole(cluster, run)
        if manifest is None:
            _say_nothing_failed(target, run)
        else:
            create_and_follow(target, cluster, manifest, limit, wait=wait)


def _whole(cluster: Cluster, run: Run) -> JsonObject:
    from dawg_orchestrator.client.reruns import whole
    from dawg_orchestrator.client.screen import hint
    from dawg_orchestrator.client.workflows import get_workflow

    manifest = whole(run)
    workflow = (run.spec.get("workflowRef") or {}).get("name")
    if workflow is not None:
        get_workflow(cluster, run.namespace, workflow)
        hint(f"the new run takes Workflow {workflow} as it is now, not as it was for {run.name}")
    return manifest


def _of_failed(cluster: Cluster, run: Run) -> JsonObject | None:
    """The run of what did not pass, which is told; None when all did."""
    from dawg_orchestrator.client.contents import content_of
    from dawg_orchestrator.client.reruns import choose, restricted
    from dawg_orchestrator.client.screen import hint

    content = content_of(cluster, run)
    if content is None:
        raise CommandFailed(f"TestRun {run.name} has no tasks; see `dawg why {run.name}`", USAGE)
    choice = choose(content, run)
    if not choice.failed and not choice.gated:
        return None
    if not choice.failed:
        message = f"only {_named(choice.gated)} did not pass, and a gate is decided by a whole run"
        raise CommandFailed(f"{message}: dawg rerun {run.name}", USAGE)
    manifest = restricted(run, content, choice)
    for line in told(choice, content):
        hint(line)
    return manifest


def told(choice: Choice, content: Content) -> Iterator[str]:
    """What is run again, what is not, and what that means."""
    yield f"runs again, since it did not pass: {_named(choice.failed)}"
    if choice.taken:
        yield f"runs again, since those take files or values from it: {_named(choice.taken)}"
    if choice.passed:
        yield f"counts as passed before: {_named(choice.passed)}"
    if choice.staged:
        yield f"onFailure and finally are no stages here; this comes after the others: {_named(choice.staged)}"
    if choice.gated:
        yield f"left out, since a gate is decided by a whole run: {_named(choice.gated)}"
    if choice.gated or content.spec.get("gate"):
        yield "a run of tasks of its own never gates: this one says nothing about a merge"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _say_nothing_failed(target: Target, run: Run) -> None:
    from dawg_orchestrator.client.printing import print_json, print_line

    if target.wants_json:
        print_json({})
    else:
        print_line(f"nothing failed in testrun.dawg.dev/{run.name}, so nothing is run again")
