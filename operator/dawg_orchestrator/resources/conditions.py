"""Conditions as the Kubernetes API conventions have them, and the difference between two sets of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, ValidationError

from dawg_orchestrator.resources.model import Model, Time
from dawg_orchestrator.resources.reasons import Reason

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Model):
    """One answer about an object. ``last_transition_time`` moves only when ``status`` flips."""

    type: str = Field(max_length=64)
    status: ConditionStatus
    reason: str = Field(max_length=64)
    message: str = Field(default="", max_length=1024)
    observed_generation: int | None = None
    last_transition_time: Time | None = None


def read_conditions(entries: Iterable[Any], types: Collection[str]) -> tuple[Condition, ...]:
    """Of the conditions on an object those that are ours to set; what cannot be read will be written anew."""
    known = []
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("type") in types:
            with suppress(ValidationError):
                known.append(Condition.model_validate(entry))
    return tuple(known)


def set_condition(
    conditions: Iterable[Condition],
    type: str,  # noqa: A002
    status: ConditionStatus,
    reason: Reason,
    message: str,
    *,
    generation: int | None,
    now: datetime,
) -> tuple[Condition, ...]:
    """The conditions with one of them set; its transition time stays unless its status flips.

    ``generation`` is None where the status says it once for all of them.
    """
    before = {condition.type: condition for condition in conditions}
    old = before.get(type)
    flipped = old is None or old.status != status or old.last_transition_time is None
    before[type] = Condition(
        type=type,
        status=status,
        reason=reason.value,
        message=message[:1024],
        observed_generation=generation,
        last_transition_time=now.replace(microsecond=0) if flipped else (old.last_transition_time if old else None),
    )
    return tuple(before.values())


def transitions(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions of ``after`` whose status or reason is new; a message that only counts down is no transition."""
    known = {(condition.type, condition.status, condition.reason) for condition in before}
    return tuple(condition for condition in after if (condition.type, condition.status, condition.reason) not in known)
