"""What a forge is to show for a commit: derived from what runs have on status, and open only by the newest of them.

For a repository, a context and a commit the run that was created last decides, whatever an older one says later: before
it has its verdict, all older ones are told so on their status, so that they open no gate though it be deleted. A run
that is gone before its verdict decides too: against the merge, until another one is created.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dawg_orchestrator.planning.gate import MergeDecision
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.reasons import Reason

JsonObject = dict[str, Any]
CheckState = Literal["pending", "success", "failure"]

LONGEST = 140  # characters of a description: what GitHub takes


@dataclass(frozen=True, slots=True)
class Target:
    """What is shown at one place: by context, on one commit of one repository."""

    namespace: str
    repository: str
    context: str
    commit: str


@dataclass(frozen=True, slots=True)
class GatedRun:
    """A run whose verdict is published; ``allowed`` None while status has no verdict."""

    name: str
    uid: str
    created: datetime
    target: Target
    workflow: str
    url: str  # of the repository that was tested
    allowed: bool | None = None
    message: str = ""
    published: bool = False  # status says that the forge shows the verdict
    superseded_by: str | None = None  # the newer one that decides, as status says
    gone: bool = False
    version: int = field(default=0, compare=False)  # of the object as it was read


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be shown, and by whose word."""

    target: Target
    state: CheckState
    description: str
    run: str
    workflow: str
    url: str


@dataclass(frozen=True, slots=True)
class GateStand:
    """How publishing fares for a run, as its status tells it."""

    superseded_by: str | None = None
    published_at: datetime | None = None
    url: str | None = None
    trouble: tuple[Reason, str] | None = None


def deciding_run(runs: Iterable[GatedRun]) -> GatedRun | None:
    """The newest; of the same second (as exact as the cluster tells it) the one that lets least through."""
    return max(
        (run for run in runs if run.superseded_by is None), default=None,
        key=lambda run: (run.created, run.allowed is not True, run.gone or run.allowed is False, run.uid),
    )  # fmt: skip


def plan_publication(runs: Iterable[GatedRun]) -> Publication | None:
    """What the forge is to show for the runs of one target; None: nobody decides.

    Who decided may be gone before the forge has shown its verdict: then nothing is left of that but who was overtaken.
    """
    everyone = list(runs)
    run = deciding_run(everyone)
    if run is None:
        run = next((one for one in everyone if not one.published), None)
        if run is None:
            return None
        told = f"run {run.superseded_by}, which decides, was deleted; create another one"
        return Publication(run.target, "failure", _shortened(told), run.name, run.workflow, run.url)
    state, told = _state_of(run)
    return Publication(run.target, state, _shortened(told), run.name, run.workflow, run.url)


def gate_status(stand: GateStand, decision: MergeDecision, *, finished: bool) -> JsonObject:
    """``status.gate`` of a run that has a gate."""
    if stand.superseded_by is not None:
        return superseded_gate(stand.superseded_by)
    state = ("Open" if decision.allowed else "Closed") if finished else "Pending"
    gate: JsonObject = {"state": state, "reason": decision.reason.value, "message": decision.message}
    if stand.trouble is not None:
        gate |= {"reason": stand.trouble[0].value, "message": stand.trouble[1]}
    if finished:
        gate["published"] = False
    elif stand.published_at is not None:
        gate |= {"publishedAt": format_time(stand.published_at)} | ({"url": stand.url} if stand.url else {})
    return gate


def superseded_gate(newer: str) -> JsonObject:
    """``status.gate`` of a run that decides no more; published is then what the newer one says."""
    told = f"{newer} is newer, and decides for this commit"
    closed = {"state": "Closed", "reason": Reason.SUPERSEDED.value, "message": told}
    return {**closed, "published": False, "supersededBy": newer}


def _state_of(run: GatedRun) -> tuple[CheckState, str]:
    if run.gone:
        return "failure", f"run {run.name} was deleted before its verdict; create another one"
    if run.allowed is None:
        return "pending", f"run {run.name} has no verdict yet"
    if run.allowed:
        return "success", run.message
    return "failure", f"{run.message}; see: dawg why {run.name}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
