"""`dawg approve-fork`: let one commit of a pull request from a fork run."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from dawg_orchestrator.client.target import Target

_COMMIT = r"[0-9a-f]{40}([0-9a-f]{24})?"


def approve_fork(
    target: Target,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of the Workflow.")],
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="Number of the pull request.")],
    commit: Annotated[str, typer.Argument(metavar="COMMIT", help="The commit that you have read, in full.")],
) -> None:
    """Let a fork's commit be tested, where the trigger says forks: Approved; needs the verb gate on the Workflow."""
    from dawg_orchestrator.client.connection import connect, resource_path
    from dawg_orchestrator.client.exits import USAGE, CommandFailed
    from dawg_orchestrator.client.printing import print_json
    from dawg_orchestrator.client.signed import whoami, write_signed
    from dawg_orchestrator.client.workflows import get_workflow
    from dawg_orchestrator.resources.names import FORK

    if re.fullmatch(_COMMIT, commit) is None:
        message = f"COMMIT {commit!r:.80} is no full commit id; give all its digits, since a short one may come to mean"
        raise CommandFailed(f"{message} another commit", USAGE)
    with connect(target) as cluster:
        get_workflow(cluster, cluster.namespace, workflow)
        user = whoami(cluster)
        path = resource_path("workflows", cluster.namespace, workflow)
        changed = write_signed(cluster, path, f"{FORK}{number}", f"Approved {commit} by {user}", "gate")
    if target.wants_json:
        print_json(changed)
    else:
        print(f"workflow.dawg.dev/{workflow}: pull request {number} may run at {commit[:12]}, approved by {user}")
