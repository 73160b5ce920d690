"""Starts the controller with a known fault in it: ``python planted.py PLANT controller``."""

# ruff: noqa: SLF001
# mypy: disable-error-code="method-assign,assignment,attr-defined,unused-ignore"
from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dawg_orchestrator import __main__ as product
from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import JOBS, Cluster
from dawg_orchestrator.controller import elector, grants, hearing, reconcile, records, status
from dawg_orchestrator.controller.desk import Desk


def accept_twice() -> None:
    """A report that is refused counts all the same."""
    hear_end = hearing._hear_end

    def heard(desk: Desk, agent: Any, finished: Any, now: Any) -> list[Any]:
        answers = hear_end(desk, agent, finished, now)
        run, index = desk.runs.get(finished.attempt.run_uid), finished.attempt.index
        if answers and run is not None:
            as_it_was = replace(run.states[index], attempt=finished.attempt.attempt, running=True, verdict=None)
            desk.set_state(run, index, as_it_was)
            desk.conclude(run, finished, now)
        return answers

    hearing._hear_end = heard


def exclusive_unrecorded() -> None:
    """Nothing is on status before it is granted."""

    async def later(self: Any, run: Any) -> None:
        self._desk.wake_run(run)

    reconcile.Reconciler._record_start = later
    grants.log.warning("planted", fault="exclusive-unrecorded")


def forget_finished() -> None:
    """The first verdict that a status names is forgotten."""
    restore = records.restore

    def restored(graph: Any, known: Any, *rest: Any) -> Any:
        letters = known.get("taskVerdicts") or ""
        first = next((place for place, letter in enumerate(letters) if letter == "P"), None)
        if first is not None and not known.get("verdict"):
            tasks = [entry for entry in known.get("tasks") or () if entry.get("index", 0) != first]
            known = {**known, "taskVerdicts": letters[:first] + "." + letters[first + 1 :], "tasks": tasks}
        return restore(graph, known, *rest)

    records.restore = restored


def ignore_term() -> None:
    """A former leader takes up the newer term and writes on."""

    async def reread(self: Any, run: Any) -> bool:
        found = await self._cluster.get(status.TESTRUNS, run.namespace, run.name)
        self._desk.term = max(self._desk.term, (found.get("status") or {}).get("term") or 0)
        if (found.get("status") or {}).get("verdict"):
            self._desk.drop_run(run.uid)
            return False
        self._desk.see_run(found)
        return self._desk.runs.get(run.uid) is run

    async def keep(self: Any) -> None:
        await asyncio.Event().wait()

    elector.Elector.check = lambda self: None
    elector.Elector.keep = keep
    status.Reporter._reread = reread


def keep_jobs() -> None:
    """No Job is ever deleted."""
    delete = Cluster.delete

    async def deleted(self: Cluster, resource: Any, *words: Any, **options: Any) -> None:
        if resource is not JOBS:
            await delete(self, resource, *words, **options)

    async def left(*_: Any, **__: Any) -> None:
        return None

    Cluster.delete = deleted
    carry_out.delete_job = left


PLANTED: dict[str, Callable[[], None]] = {
    "accept-twice": accept_twice, "exclusive-unrecorded": exclusive_unrecorded, "forget-finished": forget_finished,
    "ignore-term": ignore_term, "keep-jobs": keep_jobs,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """The product's own exit code."""
    execute = os.execv
    # The controller that starts itself anew keeps its fault.
    os.execv = lambda program, _: execute(program, [program, __file__, *arguments])
    PLANTED[arguments[0]]()
    return product.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
