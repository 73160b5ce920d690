"""Schedules: each due time starts exactly one run or is recorded, whatever happens to controllers and clocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NOON, Reason, Verdict, a_task_spec, after
from dawg_orchestrator.planning.cron import due_times
from dawg_orchestrator.planning.schedule import (
    ForgetRun,
    ScheduledRun,
    ScheduleFacts,
    SchedulePlan,
    StartRun,
    StopRun,
    plan_schedule,
)
from dawg_orchestrator.resources.model import format_time, parse_time
from dawg_orchestrator.resources.names import scheduled_name, triggered_name
from dawg_orchestrator.resources.schedule import ScheduleSpec, ScheduleStatus

HOURLY = ["0 * * * *"]
HOUR = timedelta(hours=1)


def a_schedule(cron: list[str] = HOURLY, **spec: Any) -> ScheduleFacts:
    """An hourly schedule that was made at noon."""
    template = {"spec": {"tasks": [a_task_spec()]}}
    parsed = ScheduleSpec.model_validate({"cron": cron, "runTemplate": template, **spec})
    return ScheduleFacts("team", "nightly", "uid-nightly", 1, NOON, 1, parsed, {}, ())


def a_run(name: str, hours: float, verdict: Verdict | None = None) -> ScheduledRun:
    return ScheduledRun(name, f"uid-{name}", NOON + hours * HOUR, verdict)


def started(plan: SchedulePlan) -> list[datetime | None]:
    return [action.due for action in plan.actions if isinstance(action, StartRun)]


def missed(plan: SchedulePlan) -> list[tuple[str, int]]:
    return [(entry["reason"], entry.get("count", 1)) for entry in plan.status.get("missed", [])]


def ready(plan: SchedulePlan) -> tuple[str, str, str]:
    (condition,) = plan.status["conditions"]
    return condition["status"], condition["reason"], condition["message"]


def test_a_due_time_starts_a_run_that_is_named_after_it() -> None:
    early = plan_schedule(a_schedule(), after(1800))
    due = plan_schedule(a_schedule(), after(3601))

    assert (started(early), early.check_again_at) == ([], NOON + HOUR)
    assert (started(due), due.check_again_at) == ([NOON + HOUR], NOON + 2 * HOUR)
    (action,) = due.actions
    assert isinstance(action, StartRun)
    assert action.name == scheduled_name("nightly", "uid-nightly", NOON + HOUR)
    assert action.name.startswith("nightly-202601051300-")
    assert due.status["active"] == [action.name]
    assert due.status["lastScheduleTime"] == due.status["settledUntil"] == format_time(NOON + HOUR)
    assert due.status["nextScheduleTime"] == due.status["predictedStart"] == format_time(NOON + 2 * HOUR)
    assert ready(due)[:2] == ("True", "Scheduled")


def test_of_forty_due_times_that_nobody_looked_at_the_last_one_starts_and_the_others_are_recorded() -> None:
    plan = plan_schedule(a_schedule(), NOON + 40.5 * HOUR)

    assert started(plan) == [NOON + 40 * HOUR]
    assert missed(plan) == [(Reason.OVERTAKEN, 39)]
    assert plan.status["missed"][0]["first"] == format_time(NOON + HOUR)


def test_what_is_noticed_after_the_deadline_does_not_start() -> None:
    late = plan_schedule(a_schedule(startingDeadline="10m"), NOON + HOUR + timedelta(minutes=11))
    in_time = plan_schedule(a_schedule(startingDeadline="10m"), NOON + HOUR + timedelta(minutes=9))

    assert (started(late), missed(late)) == ([], [(Reason.DEADLINE_PASSED, 1)])
    assert (started(in_time), missed(in_time)) == ([NOON + HOUR], [])


@pytest.mark.parametrize(
    ("policy", "starts", "stops", "reasons"),
    [
        ("Forbid", [], [], [(Reason.STILL_ACTIVE, 1)]),
        ("Allow", [NOON + HOUR], [], []),
        ("Replace", [NOON + HOUR], ["old"], []),
    ],
)
def test_what_happens_to_the_run_before(policy: str, starts: Any, stops: Any, reasons: Any) -> None:
    facts = replace(a_schedule(concurrencyPolicy=policy), runs=(a_run("old", 0), a_run("done", 0, Verdict.PASSED)))

    plan = plan_schedule(facts, NOON + HOUR)

    assert started(plan) == starts
    assert [action.name for action in plan.actions if isinstance(action, StopRun)] == stops
    assert missed(plan) == reasons
    assert ("old" in plan.status["active"]) is (policy != "Replace")


def test_nothing_starts_while_it_is_suspended_nor_afterwards_for_what_was_due_meanwhile() -> None:
    facts = a_schedule(suspend=True)
    for hour in (1, 2, 3):
        plan = plan_schedule(facts, NOON + hour * HOUR)
        facts = replace(facts, written=plan.status)
    awake = replace(facts, spec=a_schedule().spec, generation=2)

    assert missed(plan) == [(Reason.SUSPENDED, 3)]
    assert ready(plan) == ("False", "Suspended", "set spec.suspend: false")
    assert "nextScheduleTime" not in plan.status
    assert started(plan_schedule(awake, NOON + 3.5 * HOUR)) == []
    assert started(plan_schedule(awake, NOON + 3.5 * HOUR)) == []


def test_a_changed_cron_counts_from_now_on() -> None:
    before = plan_schedule(a_schedule(["0 3 * * *"]), NOON + HOUR)
    changed = replace(a_schedule(["*/5 * * * *"]), written=before.status, generation=2)

    plan = plan_schedule(changed, NOON + 2 * HOUR + timedelta(minutes=1))

    assert (started(plan), missed(plan)) == ([], [])
    assert plan.check_again_at == NOON + 2 * HOUR + timedelta(minutes=5)


def test_a_new_annotation_starts_a_run_now_and_an_old_one_none() -> None:
    facts = replace(a_schedule(suspend=True), trigger="ada, at last", runs=(a_run("old", 0),))
    plan = plan_schedule(facts, after(60))
    again = plan_schedule(replace(facts, written=plan.status), after(61))

    (action,) = plan.actions
    assert action == StartRun(triggered_name("nightly", "uid-nightly", "ada, at last"), None, "ada, at last")
    assert plan.status["lastTrigger"] == again.status["lastTrigger"] == "ada, at last"
    assert again.actions == ()


def test_the_last_start_is_also_that_of_a_run_which_a_person_has_started() -> None:
    pressed = plan_schedule(replace(a_schedule(), trigger="ada"), after(3500))
    due = plan_schedule(replace(a_schedule(), trigger="ada", written=pressed.status), after(3700))
    late = plan_schedule(replace(a_schedule(), trigger="bob", written=due.status), after(7199))
    caught_up = plan_schedule(replace(a_schedule(), trigger="cyd", written=due.status), after(7300))

    last = [plan.status["lastScheduleTime"] for plan in (pressed, due, late, caught_up)]
    assert last == [format_time(after(seconds)) for seconds in (3500, 3600, 7199, 7300)]


def test_a_run_that_the_cluster_refuses_is_recorded_with_its_words() -> None:
    facts = replace(a_schedule(), refused="spec.tasks: too many", trigger="now")

    plan = plan_schedule(facts, NOON + HOUR)

    assert plan.actions == ()
    assert [entry["message"] for entry in plan.status["missed"]] == ["spec.tasks: too many"]
    assert missed(plan) == [(Reason.RUN_REFUSED, 2)]
    assert plan.status["lastTrigger"] == "now"


def test_finished_runs_beyond_the_limits_are_forgotten_the_oldest_first() -> None:
    green = [a_run(f"g{n}", n, Verdict.PASSED) for n in range(4)]
    red = [a_run(f"r{n}", n, Verdict.FAILED) for n in range(3)]
    limits = {"successfulRunsHistoryLimit": 2, "failedRunsHistoryLimit": 1}
    facts = replace(a_schedule(**limits), runs=(*green, a_run("active", -9), *red))

    plan = plan_schedule(facts, after(1))

    assert {action.name for action in plan.actions if isinstance(action, ForgetRun)} == {"g0", "g1", "r0", "r1"}


@pytest.mark.parametrize(
    ("spec", "reason", "told"),
    [
        ({"cron": ["61 * * * *"]}, "InvalidSpec", "spec.cron[0]"),
        ({"timezone": "Mars/Olympus"}, "InvalidSpec", "spec.timezone"),
        ({"when": "commitsSince >"}, "InvalidSpec", "spec.when: this is not a CEL expression"),
        ({"when": "commits > 0"}, "InvalidSpec", "spec.when: 'commits > 0' cannot be evaluated"),
        ({"when": "commitsSince"}, "InvalidSpec", "spec.when: 'commitsSince' gives 0; it must be true or false"),
    ],
)
def test_what_cannot_be_followed_says_so_and_is_left_alone(spec: dict[str, Any], reason: str, told: str) -> None:
    facts = a_schedule(**spec)
    plan = plan_schedule(facts, NOON + HOUR)
    later = plan_schedule(replace(facts, written=plan.status), NOON + 2 * HOUR)

    assert ready(plan)[:2] == ("False", reason)
    assert ready(plan)[2].startswith(told)
    assert (plan.actions, plan.check_again_at) == ((), None)
    assert (later.actions, missed(later)) == ((), [])
    (action,) = plan_schedule(replace(facts, trigger="now"), after(1)).actions
    assert isinstance(action, StartRun)


def test_after_a_year_without_anybody_each_look_is_short() -> None:
    facts, looks = a_schedule(["* * * * *"]), 0
    now = NOON + timedelta(days=2)
    while True:
        plan = plan_schedule(facts, now)
        looks, facts = looks + 1, replace(facts, written=plan.status)
        if plan.check_again_at != now:
            break

    assert looks == 6
    assert missed(plan) == [(Reason.OVERTAKEN, 2 * 1440 - 1)]


@dataclass
class Cluster:
    """What lasts: the status as last written, and every run that was ever created."""

    facts: ScheduleFacts
    created: Counter[str] = field(default_factory=Counter)
    dues: set[datetime] = field(default_factory=set)
    recorded: int = 0

    def look(self, now: datetime, *, dies: bool) -> None:
        """One look of some controller; it may die after its runs are created and before status is written."""
        plan = plan_schedule(self.facts, now)
        for action in plan.actions:
            if isinstance(action, StartRun) and action.due is not None:
                self.created[action.name] += 1
                self.dues.add(action.due)
                run = ScheduledRun(action.name, f"uid-{action.name}", now, Verdict.PASSED)
                self.facts = replace(self.facts, runs=(*self.facts.runs, run))
        if not dies:
            self.recorded = sum(entry.get("count", 1) for entry in plan.status.get("missed", []))
            self.facts = replace(self.facts, written=plan.status)
            ScheduleStatus.model_validate(plan.status)


looks = st.lists(
    st.tuples(
        st.sampled_from([10.0, 65.0, 600.0, 3700.0, -3600.0, 3600.0, 20000.0]),  # seconds until the next look
        st.booleans(),
    ),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=80)
@given(looks, st.sampled_from(["Allow", "Replace"]), st.sampled_from([None, "15m"]))
def test_each_due_time_starts_one_run_or_is_recorded_whoever_dies_and_whatever_the_clock_does(
    steps: list[tuple[float, bool]], policy: str, deadline: str | None
) -> None:
    spec = {"concurrencyPolicy": policy, "successfulRunsHistoryLimit": 1000} | (
        {"startingDeadline": deadline} if deadline else {}
    )
    cluster = Cluster(a_schedule(["*/30 * * * *", "7 * * * *"], **spec))
    now = latest = NOON
    for seconds, dies in steps:
        now += timedelta(seconds=seconds)
        latest = max(latest, now)
        cluster.look(now, dies=dies)
    cluster.look(latest, dies=False)

    settled = parse_time(cluster.facts.written["settledUntil"])
    due = []
    for time in due_times(cluster.facts.spec.cron, "UTC", NOON):
        if time > settled:
            break
        due.append(time)
    assert cluster.dues <= set(due)
    assert set(cluster.created.values()) <= {1}
    assert len(cluster.dues) + cluster.recorded == len(due)
