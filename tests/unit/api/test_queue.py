from __future__ import annotations

from datetime import UTC, datetime, timedelta

from apiserver_double import ApiserverDouble, JsonObject, a_task
from dawg_orchestrator.api.figures import summary
from dawg_orchestrator.api.follow import Seen
from dawg_orchestrator.api.queue import live_run, queue_entries
from dawg_orchestrator.resources.names import RECOMMENDED
from dawg_orchestrator.store.runs import Figures

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOTHING = Figures(0, 0, 0, 0, 0.0)


def entries(*testruns: JsonObject, now: datetime = NOON) -> list[JsonObject]:
    return queue_entries([live_run(testrun) for testrun in testruns], {}, {"team"}, now)


def test_urgent_tasks_come_first_and_each_pool_counts_for_itself() -> None:
    cluster = ApiserverDouble()
    found = entries(
        cluster.testrun("a", a_task("slow", priority="low"), a_task("fast", priority="critical"), pool="p"),
        cluster.testrun("b", a_task("only"), pool="q"),
    )

    assert [(one["pool"], one["position"], one["task"]) for one in found] == [
        ("p", 1, "fast"), ("p", 2, "slow"), ("q", 1, "only")
    ]  # fmt: skip


def test_runs_that_are_likely_to_fail_stand_first_of_their_level() -> None:
    cluster = ApiserverDouble()
    late = cluster.testrun("late", priority="high")
    late["metadata"]["annotations"] = {RECOMMENDED: "1"}

    found = entries(cluster.testrun("early", priority="high"), late, cluster.testrun("urgent", priority="critical"))

    assert [(one["run"], one["recommended"]) for one in found] == [("urgent", False), ("late", True), ("early", False)]


def test_a_step_that_names_no_pool_waits_in_that_of_steps() -> None:
    run = ApiserverDouble().testrun("a", {"name": "shown", "uses": "update-dashboard", "with": {"title": "a word"}})

    assert [(one["task"], one["pool"]) for one in entries(run)] == [("shown", "builtin")]


def test_a_task_whose_needs_have_not_ended_waits_without_a_position() -> None:
    run = ApiserverDouble().testrun("a", a_task("build"), a_task("unit", needs=["build"]))

    assert [(one["task"], one["position"], one["reason"]) for one in entries(run)] == [
        ("build", 1, "NotSeen"), ("unit", None, "WaitingForNeeds")
    ]  # fmt: skip


def test_what_runs_or_has_ended_does_not_wait() -> None:
    status = {
        "term": 1,
        "taskVerdicts": "P..",
        "tasks": [{"name": "b", "index": 1, "attempt": 1, "agent": "x", "job": "y", "reason": "Running"}],
    }
    run = ApiserverDouble().testrun("a", a_task("a"), a_task("b"), a_task("c"), status=status)

    assert [one["task"] for one in entries(run)] == ["c"]


def test_the_reason_is_the_one_on_status() -> None:
    status = {
        "term": 1,
        "tasks": [{"name": "unit", "index": 0, "reason": "PoolAtMaximum", "message": "5 of 5 agents are busy"}],
    }
    found = entries(ApiserverDouble().testrun("a", status=status), now=NOON + timedelta(seconds=90))

    assert found[0]["reason"] == "PoolAtMaximum"
    assert found[0]["message"] == "5 of 5 agents are busy"
    assert found[0]["waitingSeconds"] == 90


def test_other_namespaces_are_not_shown() -> None:
    run = live_run(ApiserverDouble().testrun("a"))

    assert queue_entries([run], {}, {"another"}, NOON) == []


def test_a_run_that_cannot_be_expanded_queues_nothing() -> None:
    run = ApiserverDouble().testrun("a", a_task("unit", needs=["missing"]))

    assert entries(run) == []


def test_figures_tell_nothing_where_nothing_has_happened() -> None:
    assert summary(NOTHING, [], {}, {"team"}) == {
        "totalTasks": 0, "successRate": None, "averageDurationSeconds": None,
        "activeAgents": 0, "queuedTasks": 0, "agentUtilization": 0.0,
    }  # fmt: skip


def test_figures_join_history_pools_and_queue() -> None:
    pools = {
        ("team", "default"): {"spec": {"slots": 4}, "status": {"readyAgents": 2, "busySlots": 6}},
        ("other", "default"): {"spec": {"slots": 4}, "status": {"readyAgents": 9, "busySlots": 36}},
    }
    runs = [live_run(ApiserverDouble().testrun("a", a_task("a"), a_task("b")))]

    assert summary(Figures(3, 8, 6, 4, 10.0), runs, pools, {"team"}) == {
        "totalTasks": 8, "successRate": 0.75, "averageDurationSeconds": 2.5,
        "activeAgents": 2, "queuedTasks": 2, "agentUtilization": 0.75,
    }  # fmt: skip


def test_a_run_is_known_at_once_and_boiled_down_when_somebody_asks() -> None:
    cluster, seen = ApiserverDouble(), Seen()
    first, second = cluster.testrun("a"), cluster.testrun("b")
    seen.take_run(first, {})
    seen.take_run(second, {})
    assert seen.existing == {first["metadata"]["uid"], second["metadata"]["uid"]}

    seen.take_run({**first, "status": {"verdict": "Passed"}}, {})

    assert [run.name for run in seen.live.values()] == ["b"]
