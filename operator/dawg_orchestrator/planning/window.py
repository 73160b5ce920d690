"""When the run of a due time starts: at the due time, or where in its window a smart Schedule expects to do best.

    due ────────── chosen start ────────── closes: the end of the window, or the next due time if that comes first

A start that status has announced is passed on to whoever chooses, and stands once it has come. So a restart changes
nothing, and the run of each due time starts before the next one is due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dawg_orchestrator.planning.cron import due_times
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.schedule import ScheduleSpec

NO_ANSWER = "history has not answered: it starts at its due time"
_LONGEST = timedelta(weeks=1)  # pools repeat by the week: what comes later is no better
_CRON_STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Choice:
    """When a run starts, and why then."""

    start: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Where the run of a due time may start: from ``opens`` on, before ``closes``."""

    due: datetime
    opens: datetime  # the due time, or now when that has passed
    closes: datetime
    announced: Choice | None  # what status says


Choose = Callable[[Window], Choice]


def unlearnt(window: Window) -> Choice:
    """What was announced stands; else the run starts as soon as it may."""
    return window.announced or Choice(window.opens, NO_ANSWER)


def expected_start(
    spec: ScheduleSpec, written: Mapping[str, Any], due: datetime, now: datetime, choose: Choose
) -> Choice:
    """When the run of a due time starts. One that nobody has looked at starts when its window closes."""
    if spec.smart is None or spec.suspend:
        return Choice(due)
    closes = due + min(spec.smart.window, _LONGEST)
    following = next(due_times(spec.cron, spec.timezone, due), None)
    if following is not None:
        closes = min(closes, following)
    announced = _announced(written, due)
    if announced is not None and not due <= announced.start < closes:
        announced = None  # of another window
    if announced is not None and announced.start <= now:
        return announced
    if closes <= max(due, now):
        return Choice(closes)
    return choose(Window(due, max(due, now), closes, announced))


def waiting_since(written: Mapping[str, Any], now: datetime) -> datetime | None:
    """The due time that has passed while its run waits for the start that was announced."""
    due, settled = written.get("nextScheduleTime"), written.get("settledUntil")
    if not due or not settled or not parse_time(settled) < parse_time(due) <= now:
        return None
    announced = _announced(written, parse_time(due))
    return parse_time(due) if announced is not None and announced.start > parse_time(due) else None


def is_due(spec: ScheduleSpec, time: datetime) -> bool:
    """Whether it is a due time of the expressions."""
    return next(due_times(spec.cron, spec.timezone, time - _CRON_STEP), None) == time


def _announced(written: Mapping[str, Any], due: datetime) -> Choice | None:
    start, of_due = written.get("predictedStart"), written.get("nextScheduleTime")
    if not start or not of_due or parse_time(of_due) != due:
        return None
    return Choice(parse_time(start), written.get("predictionReason"))
