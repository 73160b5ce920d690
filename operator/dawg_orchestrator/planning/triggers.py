"""Which runs a Workflow's triggers ask for: after a run that failed, after a Deployment that was rolled out.

What has been answered stands in the Workflow's ``status.triggers``, so that a restart answers nothing twice:
``{"failedRunsUntil": time, "rollouts": {Deployment: "uid/revision"}}``. Each run is named by content besides, so that
a crash between its creation and that note starts none twice either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dawg_orchestrator.resources.model import format_time, parse_time
from dawg_orchestrator.resources.names import triggered_name
from dawg_orchestrator.resources.workflow import LabelSelector, WorkflowSpec

JsonObject = dict[str, Any]

SETTLING = timedelta(seconds=5)  # of a rollout: who asks at once may still be sent to a pod of the former revision
MEMORY = timedelta(hours=1)  # how long after its end a failed run still starts what it should have started
_LATE = timedelta(minutes=5)  # ends are noted in order of time, but may be seen in another
_MOST_ROLLOUTS = 200


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that nobody's step or end asked for, and that has failed."""

    name: str
    uid: str
    labels: Mapping[str, str]
    ended_at: datetime
    source: JsonObject | None
    fixable: bool | None  # as its analysis says


@dataclass(frozen=True, slots=True)
class Rollout:
    """A Deployment's newest revision; ``complete``: all its pods are of it and available, ``since`` we saw it so."""

    deployment: str
    uid: str
    revision: str
    labels: Mapping[str, str]
    complete: bool
    image: str = ""
    since: datetime | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """What tells this rollout from every other."""
        return f"{self.uid}/{self.revision}"


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """All that decides about the triggers of one Workflow; ``answered`` has names of runs that this leader created."""

    workflow: str
    uid: str
    created: datetime
    spec: WorkflowSpec
    written: Mapping[str, Any]  # status.triggers
    failed: Sequence[FailedRun] = ()
    rollouts: Sequence[Rollout] = ()
    answered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run that a trigger asks for."""

    name: str
    trigger: str
    by: str
    parameters: dict[str, str] = field(default_factory=dict)
    source: JsonObject | None = None
    parent: str | None = None
    gate: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class TriggerPlan:
    """The runs to create, what to note once they are there, and when to look again though nothing has happened."""

    runs: tuple[AskedRun, ...]
    triggers: JsonObject
    check_again_at: datetime | None = None


def plan_triggers(facts: TriggerFacts, now: datetime) -> TriggerPlan:
    """What the Workflow's testRunFailed and deployment triggers ask for now."""
    noted: JsonObject = {}
    settled = [one.since + SETTLING for one in facts.rollouts if one.complete and one.since is not None]
    runs = [*_after_failures(facts, noted, now), *_after_rollouts(facts, noted, now)]
    return TriggerPlan(tuple(runs), noted, min((time for time in settled if time > now), default=None))


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether all labels are as the selector wants them."""
    return all(labels.get(name) == value for name, value in selector.match_labels.items())


def _after_failures(facts: TriggerFacts, noted: JsonObject, now: datetime) -> Iterable[AskedRun]:
    triggers = [one.test_run_failed for one in facts.spec.triggers if one.test_run_failed is not None]
    if not triggers:
        return
    until = _time(facts.written.get("failedRunsUntil"))
    after = max(facts.created, now - MEMORY, *([until - _LATE] if until else []))
    for run in facts.failed:
        wanted = any(
            matches(one.selector, run.labels) and (one.auto_fixable is None or one.auto_fixable == run.fixable)
            for one in triggers
        )
        name = triggered_name(facts.workflow, facts.uid, run.uid)
        if not wanted or run.ended_at < after:
            continue
        until = max(until or run.ended_at, run.ended_at)
        if name not in facts.answered:
            yield AskedRun(
                name, run.uid, f"testRunFailed {run.name}", declared(facts.spec, failedRun=run.name), run.source,
                parent=run.uid,
            )  # fmt: skip
    if until is not None:
        noted["failedRunsUntil"] = format_time(until)


def _after_rollouts(facts: TriggerFacts, noted: JsonObject, now: datetime) -> Iterable[AskedRun]:
    triggers = [one.deployment for one in facts.spec.triggers if one.deployment is not None]
    if not triggers:
        return
    known = facts.written.get("rollouts")
    known = known if isinstance(known, dict) else None
    answered: dict[str, str] = {}
    for rollout in facts.rollouts:
        if not any(matches(one.selector, rollout.labels) for one in triggers):
            continue
        before = known.get(rollout.deployment) if known is not None else None
        if rollout.complete and (known is None or before == rollout.id):
            answered[rollout.deployment] = rollout.id  # at the first look nothing of the past is answered
            continue
        if not rollout.complete or now < (rollout.since or now) + SETTLING:
            answered |= {rollout.deployment: before} if before else {}
            continue
        answered[rollout.deployment] = rollout.id
        name = triggered_name(facts.workflow, facts.uid, rollout.id)
        if name not in facts.answered:
            parameters = declared(
                facts.spec, deployment=rollout.deployment, revision=rollout.revision, image=rollout.image
            )
            yield AskedRun(name, rollout.id, f"deployment {rollout.deployment}", parameters)
    noted["rollouts"] = dict(sorted(answered.items())[:_MOST_ROLLOUTS])


def declared(spec: WorkflowSpec, **values: str) -> dict[str, str]:
    """What the trigger knows, where the Workflow declares a parameter of that name."""
    names = {parameter.name for parameter in spec.parameters}
    return {name: value for name, value in values.items() if name in names and value}


def _time(text: object) -> datetime | None:
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None
