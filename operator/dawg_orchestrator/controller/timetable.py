"""The Schedules that the leader knows, and the runs that each has started. No I/O, as all of the desk."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator.controller.versions import version_of
from dawg_orchestrator.planning.schedule import ScheduledRun, ScheduleFacts
from dawg_orchestrator.planning.untested import BranchLook, wants_commits
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.schedule import PastRun, ScheduleSpec, ScheduleStatus
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

JsonObject = dict[str, Any]
ScheduleKey = tuple[str, str]  # namespace, name
_LONGEST_TRIGGER = 253


@dataclass(slots=True)
class StartedRuns:
    """The runs of a Schedule by uid; ``listed``: as they are in the cluster."""

    by_uid: dict[str, ScheduledRun] = field(default_factory=dict)
    listed: bool = False


@dataclass(slots=True)
class Schedule:
    """A Schedule: as parsed, and as written, since its runs are made of exactly that."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created: datetime
    spec: ScheduleSpec
    template: JsonObject
    status: JsonObject
    trigger: str | None
    started: StartedRuns = field(default_factory=StartedRuns)  # shared by all versions of one Schedule

    @property
    def past(self) -> list[PastRun]:
        """Its runs as its status remembers them."""
        return [run.past for run in self.started.by_uid.values()]

    def facts(self, term: int, refused: str | None, branch: BranchLook, pool: str) -> ScheduleFacts:
        """All that decides about it; ``pool`` is whose agents look at its branch."""
        return ScheduleFacts(
            namespace=self.namespace, name=self.name, uid=self.uid, generation=self.generation, created=self.created,
            term=term, spec=self.spec, written=self.status, runs=tuple(self.started.by_uid.values()),
            trigger=self.trigger, refused=refused, branch=branch, pool=pool,
        )  # fmt: skip


class Timetable:
    """All Schedules; ``wake`` is called with those that should be looked at.

    ``asks_anew`` is called with a namespace whose Schedules may want to know something else of repositories.
    """

    def __init__(
        self, wake: Callable[[ScheduleKey], None], asks_anew: Callable[[str], None] = lambda _namespace: None
    ) -> None:
        self.schedules: dict[ScheduleKey, Schedule] = {}
        self._wake, self.asks_anew = wake, asks_anew

    def see(self, obj: JsonObject) -> None:
        """A Schedule as listed or watched; one that the schema was got around for counts as gone."""
        metadata = obj["metadata"]
        key = (metadata["namespace"], metadata["name"])
        try:
            found = parse_schedule(obj)
        except ValidationError:
            self.drop(*key)
            return
        known = self.schedules.get(key)
        if known is not None and known.uid == found.uid:
            if found.version <= known.version:
                return
            found.started = known.started
        self.schedules[key] = found
        self._wake(key)

    def drop(self, namespace: str, name: str) -> None:
        """A Schedule is gone; its runs go by ownership."""
        gone = self.schedules.pop((namespace, name), None)
        if gone is not None and wants_commits(gone.spec):
            self.asks_anew(namespace)

    def names_in(self, namespace: str) -> set[str]:
        """All Schedules of a namespace."""
        return {name for where, name in self.schedules if where == namespace}

    def wake(self, schedule: Schedule) -> None:
        """What decides about it has changed."""
        self._wake((schedule.namespace, schedule.name))

    def wake_smart(self) -> None:
        """All Schedules whose starts depend on what history says."""
        for key, schedule in self.schedules.items():
            if schedule.spec.smart is not None:
                self._wake(key)

    def run_ended(self, owner: ScheduleKey) -> None:
        """One of its runs has its verdict or is gone; which one, the cluster knows."""
        schedule = self.schedules.get(owner)
        if schedule is not None:
            schedule.started.listed = False
            self._wake(owner)


def parse_schedule(obj: JsonObject) -> Schedule:
    """A Schedule from the API's object; ValidationError where the schema was got around."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    trigger = (metadata.get("annotations") or {}).get(names.TRIGGER)
    return Schedule(
        namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"],
        version=version_of(obj), generation=metadata.get("generation", 1),
        created=parse_time(metadata["creationTimestamp"]), spec=ScheduleSpec.model_validate(spec),
        template=spec.get("runTemplate") or {}, status=_readable(obj.get("status") or {}),
        trigger=trigger[:_LONGEST_TRIGGER] if trigger else None,
    )  # fmt: skip


def _readable(status: JsonObject) -> JsonObject:
    """The status, or none where somebody has written what is none: its runs tell what has started."""
    try:
        ScheduleStatus.model_validate(status)
    except ValidationError:
        return {}
    return status


def schedule_of(metadata: Mapping[str, Any]) -> ScheduleKey | None:
    """The Schedule that owns a run."""
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("kind") == "Schedule" and owner.get("controller") and owner.get("apiVersion") == names.API_VERSION:
            return metadata["namespace"], owner["name"]
    return None


def scheduled_run(obj: JsonObject) -> ScheduledRun:
    """A TestRun as its Schedule knows it."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    commit = (status.get("source") or {}).get("commit")
    return ScheduledRun(
        metadata["name"], metadata["uid"], parse_time(metadata["creationTimestamp"]), status.get("verdict"),
        commit if isinstance(commit, str) and re.match(FULL_COMMIT_PATTERN, commit) else None,
    )  # fmt: skip
