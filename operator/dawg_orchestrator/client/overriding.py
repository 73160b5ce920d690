"""`dawg override`: let a merge through whatever the tests say."""

from __future__ import annotations

from typing import Annotated

import typer

from dawg_orchestrator.client.running import Name
from dawg_orchestrator.client.target import Target


def override(
    target: Target,
    name: Name,
    *,
    reason: Annotated[str, typer.Option(help="Why; the forge shows it, and it stays on the run.")],
) -> None:
    """Allow a run's merge whatever its verdict, which stays; needs the verb gate on the run's Workflow."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.overrides import check_overridable, effect, override_run, words
    from dawg_orchestrator.client.running import say
    from dawg_orchestrator.client.signed import whoami
    from dawg_orchestrator.client.testruns import get_run

    words("", reason)  # before anybody is asked
    with connect(target) as cluster:
        run = get_run(cluster, cluster.namespace, name)
        check_overridable(run)
        user = whoami(cluster)
        overridden = override_run(cluster, run, words(user, reason))
    say(target, overridden, f"testrun.dawg.dev/{name} overridden by {user}; {effect(overridden)}")
