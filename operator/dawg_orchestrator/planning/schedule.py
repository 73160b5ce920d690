"""What a Schedule does next: which due times become runs, and why each other one does not.

    settledUntil ──► due times ──► the last one, within its deadline: a TestRun named after it
                              ├──► every other one: status.missed, with its reason
                              │    (also the last one, where ``when`` is false)
                              └──► not yet, where a smart Schedule has chosen a later start within its window

A run's name is made of its due time, so creating it twice is impossible, and a due time is settled on status only when
its run exists. So each one starts exactly one run or is recorded, whoever leads and whatever happens in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.cron import check_cron, due_times
from dawg_orchestrator.planning.untested import (
    BranchLook,
    check_when,
    last_ended,
    remembered,
    watching,
    why_not_now,
    why_now,
)
from dawg_orchestrator.planning.window import Choice, Choose, expected_start, is_due, unlearnt, waiting_since
from dawg_orchestrator.resources.conditions import read_conditions, set_condition
from dawg_orchestrator.resources.model import format_duration, format_time, parse_time
from dawg_orchestrator.resources.names import BUILTIN_POOL, scheduled_name, triggered_name
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.schedule import MAX_ACTIVE, MAX_MISSED, MissedFiring, PastRun, ScheduleSpec
from dawg_orchestrator.resources.verdict import GREEN

_AT_A_LOOK = 500  # due times after a long absence: others want to be looked at, too
_AN_INSTANT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A TestRun that the schedule has started; ``verdict`` once it has one, ``commit`` once it is known."""

    name: str
    uid: str
    created: datetime
    verdict: str | None = None
    commit: str | None = None

    @property
    def past(self) -> PastRun:
        """As its Schedule remembers it."""
        return PastRun(name=self.name, created=self.created, verdict=self.verdict, commit=self.commit)


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """All that decides about one schedule."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    term: int
    spec: ScheduleSpec
    written: Mapping[str, Any]  # the status as it stands
    runs: Sequence[ScheduledRun]
    trigger: str | None = None  # the annotation by which people start it
    refused: str | None = None  # what the cluster said to the last run, when it did not accept it
    branch: BranchLook = field(default_factory=BranchLook)  # what came since the last run's commit
    pool: str = BUILTIN_POOL  # whose agents look at the branch

    @property
    def past(self) -> list[PastRun]:
        """The runs as a Schedule remembers them."""
        return [run.past for run in self.runs]


@dataclass(frozen=True, slots=True)
class StartRun:
    """Create the run of a due time, or of a trigger."""

    name: str
    due: datetime | None
    trigger: str | None = None
    start: datetime | None = None  # when it was to start, if it is due
    because: str | None = None  # what waits to be tested, where that decides


@dataclass(frozen=True, slots=True)
class StopRun:
    """Cancel a run that another one replaces."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """Let a finished run beyond the history limits go."""

    name: str
    uid: str


ScheduleAction = StartRun | StopRun | ForgetRun


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """The plan for one schedule: what to do before ``status`` is written, and when to look again."""

    status: dict[str, Any]
    actions: tuple[ScheduleAction, ...] = ()
    check_again_at: datetime | None = None


def plan_schedule(facts: ScheduleFacts, now: datetime, choose: Choose = unlearnt) -> SchedulePlan:
    """The plan for a schedule; ``choose`` finds the start of a run within its window."""

    def begin(due: datetime) -> Choice:
        return expected_start(facts.spec, facts.written, due, now, choose)

    unfit = _why_unfit(facts.spec)
    since, due = _due(facts, now) if unfit is None else (now, [])
    more = len(due) == _AT_A_LOOK
    fired = [time for time in due if _run_of(facts, time) is not None]  # but not yet written
    waits = bool(due) and not more and due[-1] not in fired and begin(due[-1]).start > now
    come = due[:-1] if waits else due
    begun = {time: begin(time) for time in come[-1:] if not more}
    missed, start = _sort(facts, [time for time in come if time not in fired], now, begun)
    missed = [*_withdrawn(facts, unfit is None, now), *missed]
    pressed = facts.trigger if facts.trigger and facts.trigger != facts.written.get("lastTrigger") else None
    if pressed is not None and facts.refused is not None:
        missed.append(_skipped([now.replace(microsecond=0)], Reason.RUN_REFUSED, facts.refused))
    actions = [*_starts(facts, start, begun, pressed), *_beyond_limits(facts)]
    settled = max([since, *come[-1:], *([now] if _is_changed(facts) and not waits else [])])
    upcoming = None
    if unfit is None:
        following = due[-1] if waits else next(due_times(facts.spec.cron, facts.spec.timezone, max(settled, now)), None)
        upcoming = (following, begin(following)) if following is not None else None
    asked = [now.replace(microsecond=0)] if pressed is not None and facts.refused is None else []
    began = [time for time in (start, *fired, *asked) if time is not None]
    status = _status(facts, settled, began, missed, pressed, upcoming, actions)
    status["conditions"] = _conditions(facts, unfit, upcoming is not None, now)
    look = upcoming[1].start if upcoming is not None else None
    return SchedulePlan(status, tuple(actions), now if more else look)


def _why_unfit(spec: ScheduleSpec) -> tuple[Reason, str] | None:
    """Why no time is ever due; None when all is well."""
    try:
        check_cron(spec.cron, spec.timezone)
        if spec.when is not None:
            check_when(spec.when)
    except InvalidSpec as error:
        return Reason.INVALID_SPEC, str(error)
    return None


def _starts(
    facts: ScheduleFacts, start: datetime | None, begun: Mapping[datetime, Choice], pressed: str | None
) -> list[ScheduleAction]:
    """What has to be done so that these start."""
    actions: list[ScheduleAction] = []
    if start is not None:
        because = why_now(facts.spec, facts.branch, begun[start].reason)
        name = scheduled_name(facts.name, facts.uid, start)
        actions.append(StartRun(name, start, start=begun[start].start, because=because))
    if pressed is not None and facts.refused is None:
        actions.append(StartRun(triggered_name(facts.name, facts.uid, pressed), None, pressed))
    if actions and facts.spec.concurrency_policy == "Replace":
        return [*(StopRun(run.name, run.uid) for run in facts.runs if run.verdict is None), *actions]
    return actions


def _run_of(facts: ScheduleFacts, due: datetime) -> ScheduledRun | None:
    name = scheduled_name(facts.name, facts.uid, due)
    return next((run for run in facts.runs if run.name == name), None)


def _is_changed(facts: ScheduleFacts) -> bool:
    """Whether the spec is another one than that of the status."""
    return bool(facts.written.get("settledUntil")) and facts.written.get("observedGeneration") != facts.generation


def _due(facts: ScheduleFacts, now: datetime) -> tuple[datetime, list[datetime]]:
    """Until when all is settled, and the due times since. A spec that has just changed has only one that waits."""
    settled = facts.written.get("settledUntil")
    since = parse_time(settled) if settled else facts.created
    if _is_changed(facts):
        waiting = waiting_since(facts.written, now)
        if waiting is not None and is_due(facts.spec, waiting):
            return waiting - _AN_INSTANT, [waiting]
        since = max(since, now)
    return since, list(islice(_due_until(facts.spec, since, now), _AT_A_LOOK))


def _withdrawn(facts: ScheduleFacts, is_fit: bool, now: datetime) -> list[MissedFiring]:
    """A due time that waited for its start, and that the changed spec no longer names."""
    waiting = waiting_since(facts.written, now) if _is_changed(facts) else None
    if waiting is None or _run_of(facts, waiting) is not None or (is_fit and is_due(facts.spec, waiting)):
        return []
    return [_skipped([waiting], Reason.WITHDRAWN, "spec was changed while the run waited for its start")]


def _due_until(spec: ScheduleSpec, since: datetime, now: datetime) -> Iterator[datetime]:
    for due in due_times(spec.cron, spec.timezone, since):
        if due > now:
            return
        yield due


def _sort(
    facts: ScheduleFacts, due: Sequence[datetime], now: datetime, begun: Mapping[datetime, Choice]
) -> tuple[list[MissedFiring], datetime | None]:
    """Whether the latest due time (in ``begun``: when it was to start) starts a run; all others with their reasons."""
    spec = facts.spec
    if not due:
        return [], None
    if spec.suspend:
        return [_skipped(due, Reason.SUSPENDED, "set spec.suspend: false")], None
    deadline = spec.starting_deadline
    starts = {time: choice.start for time, choice in begun.items()}
    late = [time for time in due if deadline is not None and now - starts.get(time, time) > deadline]
    in_time = due[len(late) :]
    missed = []
    if late:
        allowed = format_duration(deadline) if deadline is not None else ""
        missed.append(_skipped(late, Reason.DEADLINE_PASSED, f"no controller looked within {allowed}"))
    last = [time for time in in_time if time in begun]
    overtaken = in_time[: len(in_time) - len(last)]
    if overtaken:
        missed.append(_skipped(overtaken, Reason.OVERTAKEN, "no controller looked in time"))
    if not last:
        return missed, None
    active = [run.name for run in facts.runs if run.verdict is None]
    if active and spec.concurrency_policy == "Forbid":
        told = f"run {active[0]} had not ended; set concurrencyPolicy to Allow or Replace to start all the same"
        return [*missed, _skipped(last, Reason.STILL_ACTIVE, told)], None
    idle = why_not_now(spec, facts.branch, last_ended(facts.past, facts.written))
    if idle is not None:
        return [*missed, _skipped(last, *idle)], None
    if facts.refused is not None:
        return [*missed, _skipped(last, Reason.RUN_REFUSED, facts.refused)], None
    return missed, last[0]


def _skipped(due: Sequence[datetime], reason: Reason, message: str) -> MissedFiring:
    return MissedFiring(
        time=due[-1], first=due[0] if len(due) > 1 else None, count=len(due), reason=reason.value,
        message=message[:1024],
    )  # fmt: skip


def _beyond_limits(facts: ScheduleFacts) -> list[ScheduleAction]:
    """The oldest finished runs that nobody asked to keep."""
    ended = sorted(
        (run for run in facts.runs if run.verdict is not None), key=lambda run: (run.created, run.name), reverse=True
    )
    green = [run for run in ended if run.verdict in GREEN]
    others = [run for run in ended if run.verdict not in GREEN]
    limits = facts.spec.successful_runs_history_limit, facts.spec.failed_runs_history_limit
    surplus = [*green[limits[0] :], *others[limits[1] :]]
    return [ForgetRun(run.name, run.uid) for run in surplus]


def _status(
    facts: ScheduleFacts,
    settled: datetime,
    began: Sequence[datetime],
    missed: Sequence[MissedFiring],
    pressed: str | None,
    upcoming: tuple[datetime, Choice] | None,
    actions: Sequence[ScheduleAction],
) -> dict[str, Any]:
    """All but the conditions; fields that are not there should not be there."""
    stopped = {action.name for action in actions if isinstance(action, StopRun)}
    active = {run.name for run in facts.runs if run.verdict is None} - stopped
    active |= {action.name for action in actions if isinstance(action, StartRun)}
    following, choice = upcoming if upcoming is not None and not facts.spec.suspend else (None, None)
    status = {
        "term": facts.term,
        "observedGeneration": facts.generation,
        "settledUntil": format_time(settled),
        "lastScheduleTime": _last(facts, began),
        "nextScheduleTime": format_time(following) if following else None,
        "predictedStart": format_time(choice.start) if choice else None,
        "predictionReason": choice.reason if choice else None,
        "lastTrigger": pressed or facts.written.get("lastTrigger"),
        "active": sorted(active)[:MAX_ACTIVE],
        "missed": _remembered(facts.written, missed),
        **remembered(facts.spec, facts.past, facts.written, facts.branch),
    }
    return {name: value for name, value in status.items() if value not in ([], None)}


def _last(facts: ScheduleFacts, began: Sequence[datetime]) -> str | None:
    """When it started something last. A due time may be behind a run that a person has started meanwhile."""
    written: str | None = facts.written.get("lastScheduleTime")
    if not began:
        return written
    latest = max(began)
    return written if written and parse_time(written) > latest else format_time(latest)


def _remembered(written: Mapping[str, Any], news: Sequence[MissedFiring]) -> list[dict[str, Any]]:
    """The last of what was missed; what goes on for the same reason stays one entry until a run has started."""
    entries = [dict(entry) for entry in written.get("missed") or ()]
    started = written.get("lastScheduleTime") or ""
    for entry in news:
        wire = entry.wire()
        before = entries[-1] if entries else {"time": ""}
        if before.get("reason") == wire["reason"] and before["time"] > started:
            wire["first"] = before.get("first") or before["time"]
            wire["count"] = before.get("count", 1) + wire["count"]
            entries[-1] = wire
        else:
            entries.append(wire)
    return entries[-MAX_MISSED:]


def _conditions(
    facts: ScheduleFacts, unfit: tuple[Reason, str] | None, is_ever_due: bool, now: datetime
) -> list[dict[str, Any]]:
    if unfit is None and not is_ever_due:
        unfit = Reason.INVALID_SPEC, "spec.cron: none of its days exists"
    if unfit is None and facts.spec.suspend:
        unfit = Reason.SUSPENDED, "set spec.suspend: false"
    reason, message = unfit or (Reason.SCHEDULED, Reason.SCHEDULED.sentence)
    watched = watching(facts.spec, facts.branch, facts.pool) if unfit is None else None
    kept = ("Ready",) if watched is None else ("Ready", "Watching")
    known = read_conditions(facts.written.get("conditions") or (), kept)
    word = "False" if unfit is not None else "True"
    known = set_condition(known, "Ready", word, reason, message, generation=facts.generation, now=now)  # type: ignore[arg-type]
    if watched is not None:
        known = set_condition(known, "Watching", *watched, generation=facts.generation, now=now)  # type: ignore[arg-type]
    return [condition.wire() for condition in known]
