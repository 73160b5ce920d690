"""`dawg approve`: say yes or no where a run waits for it."""

from __future__ import annotations

from typing import Annotated

import typer

from dawg_orchestrator.client.running import Name
from dawg_orchestrator.client.target import Target


def approve(
    target: Target,
    name: Name,
    task: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="The approve step; else the one that waits.")
    ] = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; it stays on the run.")] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Say no: the step fails.")] = False,
) -> None:
    """Approve a run's step that waits for it, or reject it; needs the verb approve on Workflows."""
    from dawg_orchestrator.client.approvals import decide, task_to_decide, words
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.running import say
    from dawg_orchestrator.client.signed import whoami
    from dawg_orchestrator.client.testruns import get_run

    with connect(target) as cluster:
        run = get_run(cluster, cluster.namespace, name)
        chosen = task_to_decide(run, task)
        user = whoami(cluster)
        decided = decide(cluster, run, chosen, words(user, reason, reject=reject))
    say(target, decided, f"testrun.dawg.dev/{name}: {chosen} {'rejected' if reject else 'approved'} by {user}")
