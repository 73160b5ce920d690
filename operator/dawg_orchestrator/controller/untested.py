"""What Schedules ask about their branches, who is asked, and what was answered. No I/O, as all of the desk.

    Schedules ──► questions to those who look at repositories ──► answers ──► the Schedules are looked at

A question changes when a run has tested another commit. The answer to the former one counts no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from dawg_orchestrator.controller.detected import Detected, Sight
from dawg_orchestrator.controller.library import Library
from dawg_orchestrator.controller.timetable import Schedule, Timetable
from dawg_orchestrator.learning.timing import Span
from dawg_orchestrator.learning.waiting import choose_start_by_risk
from dawg_orchestrator.planning.gitwatch import Look, pool_of_watches
from dawg_orchestrator.planning.untested import (
    Ask,
    BranchLook,
    add_watches,
    answer_of,
    ask_of,
    goes_by_risk,
    in_words,
    last_tested,
    revision_of,
    wants_commits,
    why_not_followed,
)
from dawg_orchestrator.planning.window import Choice, Choose, Window
from dawg_orchestrator.resources.names import BUILTIN_POOL
from dawg_orchestrator.resources.protocol import Watch
from dawg_orchestrator.resources.workflow import WorkflowSpec

PATIENCE = timedelta(seconds=30)  # for the first answer to a question: without one a run may be for nothing


class Looks(Protocol):
    """Who knows what was found in a repository."""

    def look_at(self, namespace: str, watch: str) -> Look | None:
        """What was found last; None: nobody has looked."""


class UntestedCommits:
    """The questions of all Schedules."""

    def __init__(self, timetable: Timetable, library: Library, looks: Looks, detected: Detected) -> None:
        self._timetable, self._library, self._looks, self._detected = timetable, library, looks, detected
        self._asks: dict[str, tuple[Ask | None, datetime]] = {}  # by uid of the Schedule: its question, and since when

    # What those who look after repositories ask

    def add_to(self, namespace: str, wanted: Mapping[str, dict[str, Watch]]) -> dict[str, dict[str, Watch]]:
        """The watches of a namespace, with what its Schedules want to know."""
        there = {schedule.uid for schedule in self._timetable.schedules.values()}
        self._asks = {uid: asked for uid, asked in self._asks.items() if uid in there}
        asks = []
        for key in sorted(self._timetable.schedules):
            schedule = self._timetable.schedules[key]
            ask = self._ask_of(schedule) if key[0] == namespace else None
            if ask is not None:
                asks.append((self.pool_of(schedule), ask))
        return add_watches(wanted, asks)

    def seen(self, namespace: str, watch: str, look: Look) -> None:
        """Somebody has looked at a repository: who asked about it is looked at."""
        for (where, _), schedule in list(self._timetable.schedules.items()):
            ask = self._ask_of(schedule) if where == namespace else None
            if ask is None or ask.watch != watch:
                continue
            self._tell_of_commits(schedule, ask, answer_of(ask, look))
            self._timetable.wake(schedule)

    # What Schedules ask

    def look_of(self, schedule: Schedule, now: datetime) -> BranchLook:
        """What is known of its branch. A question that is new is asked."""
        ask = self._ask_of(schedule)
        if self._asks.get(schedule.uid, (None, now))[0] != ask:
            self._timetable.asks_anew(schedule.namespace)
            self._asks[schedule.uid] = ask, now
        if ask is not None:
            return answer_of(ask, self._looks.look_at(schedule.namespace, ask.watch))
        return BranchLook(problem=why_not_followed(schedule.spec) if wants_commits(schedule.spec) else None)

    def pool_of(self, schedule: Schedule) -> str:
        """Whose agents look at its branch."""
        workflow = self._workflow_of(schedule)
        return pool_of_watches(workflow) if workflow is not None else BUILTIN_POOL

    def answer_comes_until(self, schedule: Schedule, look: BranchLook, now: datetime) -> datetime | None:
        """Until when its start may wait for an agent that has only just been asked; None: no longer."""
        ask, since = self._asks.get(schedule.uid, (None, now))
        if ask is None or look.told is not None or look.problem is not None:
            return None
        deadline = schedule.spec.starting_deadline
        until = since + (min(PATIENCE, deadline / 2) if deadline is not None else PATIENCE)
        return until if until > now else None

    def chooser(self, schedule: Schedule, look: BranchLook) -> Choose | None:
        """By which its starts are chosen; None: not by risk."""
        if not goes_by_risk(schedule.spec):
            return None
        told, words = look.told, in_words(look, revision_of(schedule.spec))
        workflow = self._workflow_of(schedule)
        rules = workflow.risk if workflow is not None else []

        def choose(window: Window) -> Choice:
            if told is None:
                return window.announced or Choice(window.opens, f"{words}: it starts at its due time")
            announced = window.announced.start if window.announced is not None else None
            span = Span(window.due, window.opens, window.closes, announced)
            return Choice(*choose_start_by_risk(told, words, rules, span))

        return choose

    # Inside

    def _ask_of(self, schedule: Schedule) -> Ask | None:
        if schedule.spec.suspend:
            return None
        tested = last_tested(schedule.past, schedule.status)
        return ask_of(schedule.spec, tested.commit if tested is not None else None)

    def _workflow_of(self, schedule: Schedule) -> WorkflowSpec | None:
        reference = schedule.spec.run_template.spec.workflow_ref
        found = self._library.workflows.get((schedule.namespace, reference.name)) if reference is not None else None
        return found.spec if found is not None else None

    def _tell_of_commits(self, schedule: Schedule, ask: Ask, look: BranchLook) -> None:
        """What is new beside what its status has noted is an event; at the first look nothing is."""
        told, noted = look.told, (schedule.status.get("branch") or {}).get("head")
        if told is None or told.head is None or noted is None or noted == told.head:
            return
        self._detected.tell(
            Sight(
                namespace=schedule.namespace, url=ask.url, branch=told.revision, commit=told.head, before=noted,
                parents=told.parents, author=told.author, message=told.message,
                files=len(told.files) if told.files is not None else None,
            )
        )  # fmt: skip
