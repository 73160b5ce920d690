"""Schedule: when runs start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dawg_orchestrator.resources.conditions import Condition
from dawg_orchestrator.resources.model import Duration, Model, Time
from dawg_orchestrator.resources.testrun import TestRunSpec


class Smart(Model):
    """Move the start within the window after each due time to where it does most good, say why, and learn from it.

    Quiet: when the pool is least busy. Staleness: as soon as a slot is likely to be free. Risk: as soon as commits of
    high risk wait for a test, else at the window's end.
    """

    window: Duration
    objective: Literal["Quiet", "Risk", "Staleness"] = "Quiet"


class RunMetadata(Model):
    """Labels and annotations of the runs that are started."""

    labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict, max_length=64)
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] = Field(default_factory=dict, max_length=64)


class RunTemplate(Model):
    """The TestRun that each firing creates."""

    metadata: RunMetadata = RunMetadata()
    spec: TestRunSpec


class ScheduleSpec(Model):
    """When, and what."""

    cron: list[Annotated[str, Field(min_length=9, max_length=128)]] = Field(min_length=1, max_length=32)
    timezone: str = Field(default="UTC", min_length=1, max_length=64)
    suspend: bool = False
    starting_deadline: Duration | None = None
    concurrency_policy: Literal["Forbid", "Allow", "Replace"] = "Forbid"
    smart: Smart | None = None
    when: str | None = Field(default=None, min_length=1, max_length=2048)
    successful_runs_history_limit: int = Field(default=3, ge=0, le=1000)
    failed_runs_history_limit: int = Field(default=3, ge=0, le=1000)
    run_template: RunTemplate


MAX_MISSED = 20
MAX_ACTIVE = 100


class MissedFiring(Model):
    """Due times in a row that did not become runs, and why."""

    time: Time  # the last of them
    first: Time | None = None  # when there are several
    count: int = Field(default=1, ge=1)
    reason: str = Field(max_length=64)
    message: str = Field(default="", max_length=1024)


class PastRun(Model):
    """What a Schedule remembers of a run when the run is gone."""

    name: str = Field(max_length=253)
    created: Time
    verdict: str | None = Field(default=None, max_length=64)
    commit: str | None = Field(default=None, max_length=64)


class SeenBranch(Model):
    """Where the branch was when it was looked at last, and how many commits the last run had not tested."""

    head: str = Field(max_length=64)
    commits_since: int = Field(ge=0)  # 1000: so many or more


class ScheduleStatus(Model):
    """What fired last, what fires next; ``predictedStart`` is when the run of ``nextScheduleTime`` starts, and why.

    The last three fields belong to Schedules with ``when`` or objective Risk: the last run that tested a commit, the
    last one that ended, and their branch.
    """

    term: int | None = None
    observed_generation: int | None = None
    last_schedule_time: Time | None = None
    settled_until: Time | None = None  # every due time up to here has become a run, or stands in missed
    next_schedule_time: Time | None = None
    predicted_start: Time | None = None
    prediction_reason: str | None = Field(default=None, max_length=1024)
    active: list[Annotated[str, Field(max_length=253)]] = Field(default_factory=list, max_length=MAX_ACTIVE)
    missed: list[MissedFiring] = Field(default_factory=list, max_length=MAX_MISSED)
    last_trigger: str | None = Field(default=None, max_length=253)
    tested: PastRun | None = None
    last_ended: PastRun | None = None
    branch: SeenBranch | None = None
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
