"""The built-in step ``approve``: a person's word, in an annotation whose author the admission policy vouches for."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from dawg_orchestrator.planning.facts import Approval
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.steps import Approve
from dawg_orchestrator.resources.verdict import Verdict


def read_approval(text: str) -> Approval | None:
    """An annotation's value, ``Approved by alice`` or ``Rejected by alice: too risky``; None when it is neither."""
    for word, approved in (("Approved by ", True), ("Rejected by ", False)):
        if text.startswith(word):
            by, _, reason = text.removeprefix(word).partition(": ")
            return Approval(by, approved, reason) if by else None
    return None


def ask_for_approval(step: Step, cell: Cell, inputs: Approve) -> None:
    approval = step.facts.approvals.get(cell.task.name)
    if approval is not None:
        said = f"{'approved' if approval.approved else 'rejected'} by {approval.by}"
        message = f"{said}: {approval.reason}" if approval.reason else said
        step.outputs[cell.index] = {"by": approval.by}
        if approval.approved:
            step.settle(cell.index, Verdict.PASSED, Reason.STEP_DONE, message)
        else:
            step.settle(cell.index, Verdict.FAILED, Reason.REJECTED, message)
        return
    state = step.states[cell.index]
    if state.started_at is None:  # from now on status says it, whatever becomes of the entries of what it needs
        state = step.states[cell.index] = replace(state, started_at=_turn_came_at(step, cell))
    due = (state.started_at or step.now) + inputs.timeout
    if step.now < due:
        asked = f"{inputs.message}; " if inputs.message else ""
        step.wait(cell.index, Reason.WAITING_FOR_APPROVAL, f"{asked}approve or reject until {format_time(due)}")
        step.look_at(due)
    else:
        step.settle(cell.index, Verdict.FAILED, Reason.NOT_APPROVED, f"nobody approved until {format_time(due)}")


def _turn_came_at(step: Step, cell: Cell) -> datetime:
    """When the last of what it waits for ended."""
    needed = [name for name, bit in step.graph.needs.bits.items() if step.graph.needs.before(cell.task.name) & bit]
    ends = [ended for index in step.graph.cells_of(needed) if (ended := step.states[index].ended_at) is not None]
    return max(ends, default=step.facts.started_at or step.now)
