"""Overrides as the person gives them: which runs can be overridden, and what is written."""

from __future__ import annotations

from dawg_orchestrator.client.connection import Cluster
from dawg_orchestrator.client.exits import USAGE, CommandFailed
from dawg_orchestrator.client.signed import write_signed
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.names import OVERRIDE

LEAST, MOST = 5, 500  # characters of a reason, as the policy has it


def words(user: str, reason: str) -> str:
    """What is written: who and why, in one line; InvalidSpec for a reason that is none."""
    told = " ".join(reason.split())
    if not LEAST <= len(told) <= MOST:
        raise InvalidSpec("--reason", f"must have {LEAST} to {MOST} characters: it is shown on the forge, and stays")
    return f"Allowed by {user}: {told}"


def check_overridable(run: Run) -> None:
    """CommandFailed when an override would change nothing."""
    said = (run.metadata.get("annotations") or {}).get(OVERRIDE)
    newer = run.status.gate.superseded_by if run.status.gate is not None else None
    why = None
    if said is not None:
        why = f"is overridden: {said}; what somebody has said stays as it is"
    elif not (run.spec.get("workflowRef") or {}).get("name"):
        why = "has tasks of its own, so it decides over no merge; override a run of a Workflow"
    elif newer is not None:
        why = f"decides no more; override {newer}, which is newer"
    elif run.status.verdict is not None and not run.status.merge_blocked:
        why = f"has ended {run.status.verdict}, and its merge is allowed"
    if why is not None:
        raise CommandFailed(f"TestRun {run.name} {why}", USAGE)


def override_run(cluster: Cluster, run: Run, text: str) -> Run:
    """Write it, as the person; Forbidden says what the policy has against it."""
    return Run.of(write_signed(cluster, run.path, OVERRIDE, text, "gate"))


def effect(run: Run) -> str:
    """From when on it counts."""
    if run.status.verdict is not None:
        return "the merge is allowed as soon as the controller has seen it"
    return f"it counts when the run has its verdict; for one at once: dawg cancel {run.name}"
