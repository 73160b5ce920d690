"""Known faults, put into the product one at a time: proof that the checks find what they are there for.

Each takes one promise's keeper out of the product's own code. `hack/chaos --simulate N --plant NAME` looks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.controller import elector, gather, hearing, reconcile, records, resync, status
from dawg_orchestrator.planning import lease, settle, starting
from dawg_orchestrator.planning.restore import restore
from dawg_orchestrator.planning.verdict import _SEVERITY
from dawg_orchestrator.resources.protocol import Acceptance

_restore, _report, _hear_end = restore, status.Reporter.report, hearing._hear_end


async def _accept_first(self: Any, run: Any, plan: Any, contained: Any, *, at_once: bool = False) -> Any:
    await self._accept(run, contained)
    return await _report(self, run, plan, contained, at_once=at_once)


async def _accept_newest(self: Any, run: Any, plan: Any, contained: Any, *, at_once: bool = False) -> Any:
    return await _report(self, run, plan, tuple(run.awaiting), at_once=at_once)


def _forget_letters(graph: Any, written: dict[str, Any], jobs: Any, now: Any) -> Any:
    return _restore(graph, {**written, "taskVerdicts": "", "tasks": []}, jobs, now)


async def _without_version(cluster: Any, resource: Any, namespace: str, name: str, version: int, status: Any) -> Any:
    written = await cluster.patch(resource, namespace, name, {"status": status}, subresource="status")
    return written["metadata"]


async def _nothing(*_: Any, **__: Any) -> None:
    return None


async def _never(*_: Any, **__: Any) -> None:
    await asyncio.Event().wait()


def _silence_ends_all(self: Any, now: Any, serving_since: Any) -> Iterator[Any]:
    for held in self._silent(now, serving_since):
        self.end(held.task)
        yield held


def _deaf(desk_: Any, agent: Any, finished: Any, now: Any) -> list[Any]:
    return [Acceptance(lease=finished.lease, outcome="accepted"), *_hear_end(desk_, agent, finished, now)]


def _nobody_awaited(*_: Any) -> frozenset[int]:
    return frozenset()


PLANTED: dict[str, tuple[str, Callable[[], Any]]] = {
    "accept-before-writing": (
        "a report is accepted before status has it",
        lambda: mock.patch.object(status.Reporter, "report", _accept_first),
    ),
    "accept-at-once": (
        "a report is accepted the moment it is heard",
        lambda: mock.patch.object(hearing, "_hear_end", _deaf),
    ),
    "accept-newest": (
        "with a status also those reports are accepted that came after its plan",
        lambda: mock.patch.object(status.Reporter, "report", _accept_newest),
    ),
    "forget-verdicts": (
        "a new leader does not read what status says of finished tasks",
        lambda: mock.patch.object(records, "restore", _forget_letters),
    ),
    "exclusive-ends-by-silence": (
        "the lease of an exclusive task ends by silence",
        lambda: mock.patch.object(lease.LeaseTable, "end_silent", _silence_ends_all),
    ),
    "exclusive-unrecorded": (
        "what must not start twice is not recorded before it starts",
        lambda: mock.patch.object(reconcile.Reconciler, "_record_start", _nothing),
    ),
    "silent-agent-not-awaited": (
        "a new leader does not wait for the agents that status names",
        lambda: mock.patch.object(gather, "_awaited", _nobody_awaited),
    ),
    "cancel-unheard": (
        "an attempt that should end is not told so",
        lambda: mock.patch.object(reconcile.Reconciler, "_stop", _nothing),
    ),
    "ends-before-its-runs": (
        "a step that is stopped ends before the runs that it has started",
        lambda: mock.patch.object(settle, "_has_open_runs", return_value=False),
    ),
    "best-of-its-runs": (
        "one run that passed is enough for its step",
        lambda: mock.patch.object(starting, "worst", lambda verdicts: max(verdicts, key=_SEVERITY.index)),
    ),
    "no-resync": (
        "what a watch has missed is never found",
        lambda: mock.patch.object(resync, "keep_in_step", _never),
    ),
    "no-fencing": (
        "a leader whose Lease has passed to another goes on, and agents hear both",
        lambda: mock.patch.multiple(elector.Elector, check=lambda _: None, keep=_never),
    ),
    "no-version-test": (
        "a status is written whatever has been written since",
        lambda: mock.patch.object(carry_out, "write_status", _without_version),
    ),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The product with one known fault."""
    with PLANTED[name][1]():
        yield
