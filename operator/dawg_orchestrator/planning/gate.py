"""May this be merged? The API's table over the tasks that decide: the critical ones, or all where none is marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.verdict import Verdict

# A task that its own condition left out was not wanted, nor one for failures when nothing failed; any other skip hides
# something that did not pass.
HARMLESS_SKIPS = frozenset({Reason.CONDITION_FALSE, Reason.NEED_SKIPPED, Reason.NOTHING_FAILED, Reason.NOT_AVAILABLE})


@dataclass(frozen=True, slots=True)
class Deciding:
    """One task's part in the decision; ``verdict`` None while it has not ended."""

    key: str
    verdict: Verdict | None
    reason: Reason | None
    critical: bool


@dataclass(frozen=True, slots=True)
class MergeDecision:
    """Allowed or not, and why; what is not known is blocked."""

    allowed: bool
    reason: Reason
    message: str


def decide_merge(tasks: Iterable[Deciding], on_flaky: Literal["Allow", "Block"] = "Allow") -> MergeDecision:
    """Allowed only when every task that decides has passed, and at least one did."""
    everyone = list(tasks)
    deciding = [task for task in everyone if task.critical] or everyone
    pending = [task.key for task in deciding if task.verdict is None]
    blocking = [task for task in deciding if task.verdict is not None and not _is_harmless(task, on_flaky)]
    if blocking:
        first = blocking[0]
        others = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
        return MergeDecision(False, Reason.MERGE_BLOCKED, f"{first.key} is {first.verdict}{others}")
    if pending:
        return MergeDecision(False, Reason.TESTS_PENDING, f"{len(pending)} tasks that decide have not ended")
    if not any(task.verdict is not Verdict.SKIPPED for task in deciding):
        return MergeDecision(False, Reason.NOTHING_RAN, "no task that decides has run")
    return MergeDecision(True, Reason.MERGE_ALLOWED, f"{len(deciding)} tasks decide; none of them speaks against it")


def _is_harmless(task: Deciding, on_flaky: Literal["Allow", "Block"]) -> bool:
    if task.verdict is Verdict.FLAKY:
        return on_flaky == "Allow"
    if task.verdict is Verdict.SKIPPED:
        return task.reason in HARMLESS_SKIPS
    return task.verdict is Verdict.PASSED
