"""An override: a person's word that lets a run's merge through whatever its verdict. Pure.

It is an annotation whose author the admission policy vouches for. It counts once the run has its verdict, which it does
not change, and only while no newer run decides for the commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dawg_orchestrator.planning.gate import MergeDecision
from dawg_orchestrator.resources.conditions import Condition, read_conditions, set_condition
from dawg_orchestrator.resources.names import OVERRIDE
from dawg_orchestrator.resources.reasons import Reason

JsonObject = dict[str, Any]

CONDITION = "Overridden"
_WORDS = "Allowed by "
_REASON = re.compile(r"\S.{3,498}\S", re.ASCII)  # as in the chart's policy
_FORM = f"it must read {_WORDS!r}, a user, a colon, and a reason of 5 to 500 characters in one line"


@dataclass(frozen=True, slots=True)
class Override:
    """What somebody has said; ``flaw`` says why it does not count, whatever becomes of the run."""

    by: str = ""
    reason: str = ""
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether an override counts, and why: the condition ``Overridden``."""

    counts: bool
    reason: Reason
    message: str


def read_override(obj: JsonObject) -> Override | None:
    """What a run's annotation says, ``Allowed by alice: the reason``; None when there is none."""
    text = (obj["metadata"].get("annotations") or {}).get(OVERRIDE)
    if text is None:
        return None
    by, _, reason = str(text).removeprefix(_WORDS).partition(": ")
    if (
        not str(text).startswith(_WORDS)
        or not by.isprintable()
        or not 0 < len(by) <= 256
        or _REASON.fullmatch(reason) is None
    ):
        return Override(flaw=f"the annotation {OVERRIDE} does not count: {_FORM}")
    if not ((obj.get("spec") or {}).get("workflowRef") or {}).get("name"):
        return Override(by, reason, "a run with tasks of its own decides over no merge; override a run of a Workflow")
    return Override(by, reason)


def rule(override: Override, decision: MergeDecision, *, finished: bool, superseded_by: str | None) -> Ruling:
    """Does it count? ``decision`` is what holds without it."""
    if override.flaw is not None:
        return Ruling(False, Reason.OVERRIDE_IGNORED, override.flaw)
    told = f"by {override.by}: {override.reason}"
    if superseded_by is not None:
        ignored = f"{superseded_by} is newer, and decides for this commit; what was said is {told}"
        return Ruling(False, Reason.OVERRIDE_IGNORED, ignored)
    if not finished:
        return Ruling(False, Reason.TESTS_PENDING, f"{told}; it counts as soon as the run has its verdict")
    if decision.allowed:
        return Ruling(False, decision.reason, f"{told}; it was not needed: the merge is allowed without it")
    return Ruling(True, Reason.OVERRIDDEN, f"{told}; without it: {decision.reason}: {decision.message}")


def overruled(override: Override | None, decision: MergeDecision, ruling: Ruling | None) -> MergeDecision:
    """What holds with the override."""
    if override is None or ruling is None or not ruling.counts:
        return decision
    return MergeDecision(True, Reason.OVERRIDDEN, f"overridden by {override.by}: {override.reason}")


def overruled_status(
    status: JsonObject, override: Override, superseded_by: str | None, now: datetime
) -> JsonObject | None:
    """The status of a finished run as it should stand; None when it does, or the override counts already."""
    conditions = _conditions(status)
    known = {condition.type: condition for condition in conditions}
    said, merge = known.get(CONDITION), known.get("MergeAllowed")
    if merge is None or (said is not None and said.status == "True"):
        return None
    superseded_by = superseded_by or (status.get("gate") or {}).get("supersededBy")
    why = Reason.of(merge.reason) or Reason.MERGE_BLOCKED
    decision = MergeDecision(status.get("mergeBlocked") is False, why, merge.message)
    ruling = rule(override, decision, finished=True, superseded_by=superseded_by)
    changed = set_ruling(conditions, ruling, now)
    result: JsonObject = dict(status)
    if ruling.counts:
        decision = overruled(override, decision, ruling)
        changed = set_condition(
            changed, "MergeAllowed", "True", decision.reason, decision.message, generation=None, now=now
        )
        result["mergeBlocked"] = False
        if (status.get("gate") or {}).get("state", "NotGated") != "NotGated":
            told = {"reason": decision.reason.value, "message": decision.message}
            result["gate"] = {"state": "Open", **told, "published": False}
    result["conditions"] = [condition.wire() for condition in changed]
    return None if changed == conditions else result


def set_ruling(conditions: tuple[Condition, ...], ruling: Ruling, now: datetime) -> tuple[Condition, ...]:
    """The conditions with what became of the override."""
    word = "True" if ruling.counts else "False"
    return set_condition(conditions, CONDITION, word, ruling.reason, ruling.message, generation=None, now=now)  # type: ignore[arg-type]


def _conditions(status: JsonObject) -> tuple[Condition, ...]:
    entries = [entry for entry in status.get("conditions") or () if isinstance(entry, Mapping)]
    return read_conditions(entries, {str(entry.get("type")) for entry in entries})
