"""Approvals as the person gives them: which step waits for one, and what is written."""

from __future__ import annotations

from collections.abc import Sequence

from dawg_orchestrator.client.connection import Cluster
from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.signed import write_signed
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.resources.names import APPROVAL
from dawg_orchestrator.resources.reasons import Reason


def words(user: str, reason: str, *, reject: bool) -> str:
    """What is written: who, whether, and why, in one line."""
    said = f"{'Rejected' if reject else 'Approved'} by {user}"
    told = " ".join(reason.split())
    return f"{said}: {told}" if told else said


def task_to_decide(run: Run, asked: str | None) -> str:
    """The approve step that is meant: it waits, and nobody has decided yet. People approve what they see, not before.

    CommandFailed says why there is none, or which there are.
    """
    if run.status.verdict is not None:
        raise CommandFailed(f"TestRun {run.name} has ended {run.status.verdict}; nothing waits for approval", USAGE)
    waiting = [task.name for task in run.status.tasks if _waits(task.verdict, task.reason)]
    if asked is not None:
        _check_asked(run, asked, waiting)
        return asked
    decided = [task for task in waiting if said_of(run, task) is not None]
    still_open = [task for task in waiting if task not in decided]
    if len(still_open) > 1:
        raise CommandFailed(f"several tasks wait: name one of {', '.join(still_open)}", USAGE)
    if not still_open and decided:
        raise CommandFailed(_already(run, decided[0]), USAGE)
    if not still_open:
        message = f"no task of TestRun {run.name} waits for approval; `dawg status {run.name}` says how far it is"
        raise CommandFailed(message, USAGE)
    return still_open[0]


def decide(cluster: Cluster, run: Run, task: str, text: str) -> Run:
    """Write it, as the person; Forbidden says what the policy has against it."""
    return Run.of(write_signed(cluster, run.path, f"{APPROVAL}{task}", text, "approve"))


def said_of(run: Run, task: str) -> str | None:
    """What somebody has decided about the task."""
    said = (run.metadata.get("annotations") or {}).get(f"{APPROVAL}{task}")
    return None if said is None else str(said)


def _waits(verdict: str | None, reason: str | None) -> bool:
    return verdict is None and reason == Reason.WAITING_FOR_APPROVAL


def _check_asked(run: Run, asked: str, waiting: Sequence[str]) -> None:
    if asked in waiting and said_of(run, asked) is None:
        return
    if said_of(run, asked) is not None:
        raise CommandFailed(_already(run, asked), USAGE)
    entry = next((task for task in run.status.tasks if task.name == asked), None)
    there = f"; these wait: {', '.join(waiting)}" if waiting else f"; `dawg graph run/{run.name}` shows its tasks"
    if entry is None:
        raise CommandFailed(f"no task {asked!r} of TestRun {run.name} waits for approval{there}", USAGE)
    if entry.verdict is not None:
        raise CommandFailed(f"task {asked} has ended {entry.verdict}: {entry.message or entry.reason}{there}", USAGE)
    if entry.reason == Reason.WAITING_FOR_NEEDS:
        message = f"task {asked} does not wait for approval: the tasks that it needs have not ended"
        raise CommandFailed(f"{message}{there}", USAGE)
    raise CommandFailed(f"task {asked} does not wait for approval: it is {entry.reason or 'waiting'}{there}", USAGE)


def _already(run: Run, task: str) -> str:
    return f"task {task} is decided: {said_of(run, task)}; what somebody has decided stays as it is"
