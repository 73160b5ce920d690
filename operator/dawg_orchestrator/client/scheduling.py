"""`dawg schedules`, `schedule`: when runs start by themselves, and one of them now."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from dawg_orchestrator.client.target import Target


def schedules(target: Target) -> None:
    """Show the Schedules: when each fires next and why then, what it missed, and why it does not fire."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.printing import print_json, print_view
    from dawg_orchestrator.client.schedules import list_schedules
    from dawg_orchestrator.client.view_schedules import schedules_view

    with connect(target) as cluster:
        found, namespace = list_schedules(cluster, cluster.namespace), cluster.namespace
    if target.wants_json:
        print_json({"schedules": found})
    else:
        print_view(schedules_view(found, namespace, datetime.now(UTC)))


def schedule(target: Target, name: Annotated[str, typer.Argument(metavar="NAME", help="The Schedule's name.")]) -> None:
    """Start a Schedule's run now, whatever the time, and also if it is suspended."""
    from dawg_orchestrator.client.connection import connect
    from dawg_orchestrator.client.printing import print_json, print_view
    from dawg_orchestrator.client.schedules import start_now
    from dawg_orchestrator.client.view_schedules import prediction_view

    by = f"{getpass.getuser()} at {datetime.now(UTC).isoformat(timespec='milliseconds')}"
    with connect(target) as cluster:
        found, run = start_now(cluster, cluster.namespace, name, by)
    if target.wants_json:
        print_json({"run": run, "schedule": found})
    else:
        print(f"testrun.dawg.dev/{run} started; follow it with: dawg wait {run}")
        if (prediction := prediction_view(found, datetime.now(UTC))) is not None:
            print_view(prediction)
