"""Schedules at the desk, and what one look at a Schedule does to the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from builders import NAMESPACE, NOON, a_task_spec
from dawg_orchestrator.cluster.client import SCHEDULES, Cluster
from dawg_orchestrator.controller.detected import Detected
from dawg_orchestrator.controller.forecasts import Forecasts
from dawg_orchestrator.controller.library import Library
from dawg_orchestrator.controller.records import parse_pool
from dawg_orchestrator.controller.scheduling import Scheduling
from dawg_orchestrator.controller.standing import Standing
from dawg_orchestrator.controller.timetable import Timetable
from dawg_orchestrator.controller.untested import UntestedCommits
from dawg_orchestrator.controller.workqueue import Key, WorkQueue
from dawg_orchestrator.errors import ClusterError, Forbidden, Unavailable
from dawg_orchestrator.learning.timing import NO_HISTORY, load_key
from dawg_orchestrator.planning.window import NO_ANSWER
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import PoolLoad, ScheduleLoad
from simulation.apiserver import ApiServer

JsonObject = dict[str, Any]
KEY = (NAMESPACE, "nightly")
HOUR = timedelta(hours=1)


class World:
    """The model apiserver, one Schedule in it, and a leader that looks when told to."""

    def __init__(self, **spec: Any) -> None:
        self.now = NOON
        self.api = ApiServer(lambda: self.now, lambda *_: None)
        self.fails: list[ClusterError] = []
        self.listing: Callable[[], None] = lambda: None
        self.woken: list[Key] = []
        template = {"metadata": {"labels": {"team": "checkout"}}, "spec": {"tasks": [a_task_spec()]}}
        self.spec = {"cron": ["0 * * * *"], "runTemplate": template, **spec}
        self.apply("nightly")
        self.pool = parse_pool(
            {"metadata": {"name": "default", "namespace": NAMESPACE, "uid": "u"}, "spec": {"maxAgents": 2, "slots": 2}}
        )
        self.lead(term=1)

    def lead(self, term: int) -> None:
        """A leader that knows nothing yet but what it lists."""
        self.queue = WorkQueue(lambda: self.now)
        self.timetable = Timetable(lambda key: self.woken.append(Key("Schedule", *key)))
        self.let_go: set[str] = set()
        self.library = Library(lambda _: None, lambda _: None)
        self.forecasts = Forecasts(self.timetable, {(NAMESPACE, "default"): self.pool}, self.library)
        untested = UntestedCommits(
            self.timetable, self.library, Standing(self.library, {}, print, Detected()), Detected()
        )
        self.scheduling = Scheduling(
            cast("Cluster", self), self.timetable, self.forecasts, untested, term, self.queue, lambda: self.now,
            lambda _namespace, name, _uid: self.let_go.add(name),
        )  # fmt: skip
        for schedule in self.api.all("schedules"):
            self.timetable.see(schedule)

    def apply(self, name: str) -> None:
        """A person applies the Schedule under that name."""
        self.api.create("schedules", NAMESPACE, {"metadata": {"name": name}, "spec": self.spec}, "user")

    @property
    def schedule(self) -> JsonObject:
        return self.api.get("schedules", *KEY)

    @property
    def runs(self) -> list[JsonObject]:
        return self.api.all("testruns")

    async def look(self, hours: float) -> JsonObject:
        """Look so long after noon; the status afterwards."""
        self.now = NOON + hours * HOUR
        await self.scheduling.look(KEY)
        return cast("JsonObject", self.schedule.get("status") or {})

    def end(self, run: JsonObject, verdict: str) -> None:
        """The run gets its verdict, and the desk drops it."""
        self.api.change("testruns", NAMESPACE, run["metadata"]["name"], {"status": {"verdict": verdict}}, "leader")
        self.timetable.run_ended(KEY)

    # As the client

    async def list(self, _: Any, __: str, selectors: dict[str, str]) -> tuple[list[JsonObject], str]:
        self._maybe_fail()
        self.listing()
        label, _, value = selectors["labelSelector"].partition("=")
        return [run for run in self.runs if (run["metadata"].get("labels") or {}).get(label) == value], "1"

    async def create(self, resource: Any, namespace: str, body: JsonObject) -> JsonObject:
        made = self.api.create(resource.plural, namespace, body, "leader")
        self._maybe_fail()
        return made

    async def get(self, resource: Any, namespace: str, name: str) -> JsonObject:
        return self.api.get(resource.plural, namespace, name)

    async def patch(self, resource: Any, namespace: str, name: str, body: JsonObject) -> JsonObject:
        return self.api.change(resource.plural, namespace, name, body, "leader")

    async def replace_status(self, resource: Any, namespace: str, name: str, body: JsonObject) -> JsonObject:
        assert resource is SCHEDULES
        return self.api.request("leader", "PUT", resource.path(namespace, name, "status"), body)

    def _maybe_fail(self) -> None:
        if self.fails:
            raise self.fails.pop()


async def test_a_run_is_what_the_template_says_and_belongs_to_its_schedule() -> None:
    world = World()
    await world.look(0.5)
    assert world.runs == []
    assert world.queue._due[Key("Schedule", *KEY)] == NOON + HOUR

    status = await world.look(1)

    (run,) = world.runs
    metadata = run["metadata"]
    assert metadata["labels"] == {"team": "checkout", names.SCHEDULE: "nightly"}
    assert metadata["annotations"] == {names.DUE: format_time(NOON + HOUR)}
    assert metadata["ownerReferences"][0]["uid"] == world.schedule["metadata"]["uid"]
    assert run["spec"] == world.schedule["spec"]["runTemplate"]["spec"]
    assert status["active"] == [metadata["name"]]


async def test_an_answer_that_is_lost_makes_no_second_run_whoever_leads_then() -> None:
    world = World()
    world.timetable.schedules[KEY].started.listed = True
    world.fails = [Unavailable("the answer is lost")]
    with pytest.raises(Unavailable):
        await world.look(1)

    world.lead(term=2)
    status = await world.look(1.1)

    (run,) = world.runs
    assert status["lastScheduleTime"] == format_time(NOON + HOUR)
    assert status["active"] == [run["metadata"]["name"]]
    assert "missed" not in status


async def test_of_a_thousand_schedules_in_the_same_second_each_starts_its_run_once_though_the_leader_dies() -> None:
    world = World()
    for number in range(999):
        world.apply(f"nightly-{number}")
    asked = [schedule["metadata"] for schedule in world.api.all("schedules")]
    world.now = due = NOON + 41 * HOUR  # and nobody led in the hours before
    for term in (2, 3):
        world.lead(term)
        with contextlib.suppress(Unavailable):
            for number, schedule in enumerate(asked):
                world.fails = [Unavailable("the first leader is gone")] if (term, number) == (2, 500) else []
                await world.scheduling.look((NAMESPACE, schedule["name"]))

    expected = [names.scheduled_name(schedule["name"], schedule["uid"], due) for schedule in asked]
    assert sorted(run["metadata"]["name"] for run in world.runs) == sorted(expected)
    for schedule in world.api.all("schedules"):
        assert [(entry["reason"], entry["count"]) for entry in schedule["status"]["missed"]] == [("Overtaken", 40)]


async def test_a_change_while_runs_are_listed_does_not_hide_the_run_that_is_active() -> None:
    world = World()
    await world.look(1)
    world.lead(term=2)
    world.listing = lambda: world.timetable.see(
        world.api.change("schedules", NAMESPACE, "nightly", {"metadata": {"labels": {"a": "b"}}}, "user")
    )
    await world.look(1.5)

    status = await world.look(2)

    assert len(world.runs) == 1
    assert status["missed"][0]["reason"] == "StillActive"


async def test_runs_are_listed_again_after_a_list_that_failed() -> None:
    world = World()
    world.fails = [Unavailable("no answer")]
    with pytest.raises(Unavailable):
        await world.look(0.1)

    assert not world.timetable.schedules[KEY].started.listed


async def test_an_apiserver_that_has_not_read_its_roles_yet_makes_no_due_time_a_missed_one() -> None:
    world = World()
    await world.look(0.5)
    world.fails = [Forbidden('User "dawg" cannot create resource "testruns" in API group "dawg.dev"', 403)]
    with pytest.raises(Forbidden):
        await world.look(1)

    assert "missed" not in (await world.look(1.1))


async def test_a_run_of_that_name_that_is_somebody_elses_is_left_alone_and_named() -> None:
    world = World()
    uid = world.schedule["metadata"]["uid"]
    name = names.scheduled_name("nightly", uid, NOON + HOUR)
    world.api.create("testruns", NAMESPACE, {"metadata": {"name": name}, "spec": {}}, "user")

    status = await world.look(1)

    assert status["missed"][0]["reason"] == "RunRefused"
    assert name in status["missed"][0]["message"]
    assert len(world.runs) == 1


async def test_the_run_before_is_cancelled_where_it_is_to_be_replaced() -> None:
    world = World(concurrencyPolicy="Replace")
    await world.look(1)
    await world.look(2)

    first, second = sorted(world.runs, key=lambda run: str(run["metadata"]["name"]))
    assert first["spec"].get("cancelled") is True
    assert "cancelled" not in second["spec"]


async def test_a_run_that_has_ended_wakes_its_schedule_and_the_time_of_old_ones_is_over() -> None:
    world = World(successfulRunsHistoryLimit=1, concurrencyPolicy="Allow")
    for hour in (1, 2, 3):
        await world.look(hour)
    world.woken.clear()
    for run in world.runs:
        world.end(run, "Passed")

    status = await world.look(3.1)

    assert world.woken[0] == Key("Schedule", *KEY)
    over = [run["metadata"]["name"] for run in world.runs if run["spec"].get("ttlAfterFinished") == "0s"]
    assert len(over) == 2
    assert world.let_go == set(over)
    assert status["lastScheduleTime"] == format_time(NOON + 3 * HOUR)
    assert "active" not in status


async def test_what_somebody_changed_meanwhile_is_read_and_looked_at_again() -> None:
    world = World()
    stale = world.schedule
    world.api.change("schedules", NAMESPACE, "nightly", {"metadata": {"labels": {"a": "b"}}}, "user")
    world.timetable.see(stale)
    world.woken.clear()

    await world.look(1)

    assert world.woken == [Key("Schedule", *KEY)]
    assert len(world.runs) == 1
    assert (await world.look(1.1))["lastScheduleTime"] == format_time(NOON + HOUR)


SMART = {"cron": ["0 14 * * *"], "smart": {"window": "4h"}}


def full_until(hour: float) -> dict[str, PoolLoad]:
    """What the api has learnt: for a day until this hour of Monday all four slots are taken."""
    end = int((NOON + (hour - 12) * HOUR).timestamp()) // 900
    full = {quarter % 672 for quarter in range(end - 96, end)}
    return {load_key(NAMESPACE, "default"): PoolLoad(busy=[4.0 if place in full else 0.0 for place in range(672)])}


async def test_a_smart_schedule_starts_its_run_when_history_says_the_pool_is_quieter() -> None:
    world = World(**SMART)
    world.forecasts.learn(full_until(16))

    announced = await world.look(1)
    waiting = await world.look(2.1)
    assert world.runs == []
    await world.look(4.5)

    assert announced["predictedStart"] == waiting["predictedStart"] == format_time(NOON + 4.5 * HOUR)
    assert announced["nextScheduleTime"] == waiting["nextScheduleTime"] == format_time(NOON + 2 * HOUR)
    assert announced["predictionReason"].startswith("the pool is quieter then: ")
    (run,) = world.runs
    assert run["metadata"]["annotations"] == {names.DUE: format_time(NOON + 2 * HOUR)}


async def test_what_is_learnt_wakes_smart_schedules_and_a_leader_without_it_keeps_to_what_was_announced() -> None:
    world = World(**SMART)
    assert (await world.look(0.5))["predictionReason"] == NO_ANSWER
    world.woken.clear()
    for _ in range(2):
        world.forecasts.learn(full_until(16))
    assert world.woken == [Key("Schedule", *KEY)]
    announced = await world.look(1)

    world.lead(term=2)
    status = await world.look(2.1)

    assert world.runs == []
    assert status["predictedStart"] == announced["predictedStart"] == format_time(NOON + 4.5 * HOUR)


async def test_smart_schedules_of_one_pool_keep_out_of_one_anothers_way() -> None:
    world = World(**SMART)
    load = PoolLoad(busy=[0.0] * 672, schedules={"nightly": ScheduleLoad(seconds=3600, slots=4)})
    world.forecasts.learn({load_key(NAMESPACE, "default"): load})
    first = await world.look(0.5)
    other = {"metadata": {"name": "other"}, "spec": world.schedule["spec"]}
    world.timetable.see(world.api.create("schedules", NAMESPACE, other, "user"))

    await world.scheduling.look((NAMESPACE, "other"))

    second = world.api.get("schedules", NAMESPACE, "other")["status"]
    assert first["predictedStart"] == format_time(NOON + 2 * HOUR)
    assert second["predictedStart"] >= format_time(NOON + 3 * HOUR)


@pytest.mark.parametrize(
    ("pool", "told"),
    [("default", NO_HISTORY), ("gone", "pool gone does not exist: it starts at its due time")],
)
async def test_where_history_says_nothing_a_run_starts_at_its_due_time(pool: str, told: str) -> None:
    run = {"spec": {"pool": pool, "tasks": [a_task_spec()]}}
    world = World(**SMART, runTemplate=run)
    world.forecasts.learn({})

    status = await world.look(1)

    assert (status["predictedStart"], status["predictionReason"]) == (format_time(NOON + 2 * HOUR), told)


async def test_the_pool_of_a_workflow_is_that_of_its_first_task_that_an_agent_carries_out() -> None:
    world = World(**SMART, runTemplate={"spec": {"workflowRef": {"name": "nightly"}}})
    tasks = [{"name": "ask", "uses": "approve", "pool": "of-no-account"}, {**a_task_spec(), "needs": ["ask"]}]
    workflow = {
        "metadata": {"name": "nightly", "namespace": NAMESPACE, "uid": "w", "creationTimestamp": format_time(NOON)},
        "spec": {"pool": "warm", "tasks": tasks},
    }
    world.library.see(workflow)
    world.forecasts.learn({})

    assert (await world.look(1))["predictionReason"].startswith("pool warm does not exist")


async def test_runs_of_a_schedule_with_fixed_times_are_expected_where_they_were_and_those_of_others_are_not() -> None:
    busy = full_until(16)[load_key(NAMESPACE, "default")].busy
    shares = {place: taken for place, taken in enumerate(busy) if taken}
    load = PoolLoad(busy=busy, schedules={"fixed": ScheduleLoad(seconds=3600, slots=4, busy=shares)})
    world = World(**SMART)
    world.forecasts.learn({load_key(NAMESPACE, "default"): load})
    gone = await world.look(0.5)
    spec = {**world.schedule["spec"], "smart": None}
    fixed = {"metadata": {"name": "fixed"}, "spec": spec}
    world.timetable.see(world.api.create("schedules", NAMESPACE, fixed, "user"))

    there = await world.look(1)

    assert gone["predictedStart"] == format_time(NOON + 2 * HOUR)
    assert there["predictedStart"] == format_time(NOON + 4.5 * HOUR)


def test_a_schedule_that_the_schema_was_got_around_for_stops_nobody() -> None:
    world = World()
    broken = {**world.schedule, "spec": {"cron": 7}}
    broken["metadata"] = {**broken["metadata"], "resourceVersion": "99"}

    world.timetable.see(broken)

    assert world.timetable.names_in(NAMESPACE) == set()


async def test_a_status_that_somebody_broke_is_written_anew_and_starts_nothing_twice() -> None:
    world = World()
    await world.look(1)
    broken = {"status": {"settledUntil": "noon", "lastScheduleTime": 7}}
    world.timetable.see(world.api.change("schedules", NAMESPACE, "nightly", broken, "user"))

    status = await world.look(1.1)

    assert len(world.runs) == 1
    assert status["settledUntil"] == status["lastScheduleTime"] == format_time(NOON + HOUR)


def test_an_older_word_of_a_schedule_counts_for_nothing() -> None:
    world = World()
    newer = {**world.schedule, "metadata": {**world.schedule["metadata"], "resourceVersion": "99"}}
    world.timetable.see(newer)
    world.woken.clear()
    world.timetable.see(world.schedule)

    assert world.timetable.schedules[KEY].version == 99
    assert world.woken == []
