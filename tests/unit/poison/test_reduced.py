"""What was once found to stop the leader, or to keep one run or pool without a word; each as small as it gets."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from builders import NAMESPACE, NOON, a_graph, a_task_spec, pool_object, run_object
from crdschema import faults, schema_of
from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import TESTRUNS, Cluster
from dawg_orchestrator.controller import resync, ttl
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.errors import ClusterError, Forbidden, Invalid, InvalidSpec
from dawg_orchestrator.planning.changes import keep_waits
from dawg_orchestrator.planning.plan import CreateDeployment
from dawg_orchestrator.planning.report import total
from dawg_orchestrator.resources.model import parse_duration, parse_time
from dawg_orchestrator.resources.protocol import FROM_AGENT
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from dawg_orchestrator.resources.testrun import MOST_COUNTED, TestCounts
from dawg_orchestrator.store.testrun import record_of

FAR = "99999d" * 5


def a_desk() -> Desk:
    desk = Desk(2, lambda _key, _at: None, NOON - timedelta(hours=1))
    desk.see_pool(pool_object())
    return desk


def planned(run: dict[str, Any]) -> dict[str, Any]:
    """The status that a leader gives to the run."""
    desk = a_desk()
    desk.see_run(run)
    found = desk.run_named(NAMESPACE, run["metadata"]["name"])
    assert found is not None
    status: dict[str, Any] = desk.plan_run(found, NOON).status
    return status


def finished(status: dict[str, Any]) -> tuple[str, str]:
    (condition,) = [entry for entry in status["conditions"] if entry["type"] == "Finished"]
    return condition["reason"], condition["message"]


# Times and durations


@pytest.mark.parametrize("text", ["999999999d", "9" * 31 + "d", "1d" * 17])
def test_a_duration_beyond_the_calendar_is_refused_by_schema_and_model(text: str) -> None:
    assert list(faults(schema_of("TestRun")["properties"]["timeout"], text))
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)
    assert finished(planned(run_object(timeout=text)))[0] == "InvalidSpec"


def test_the_longest_duration_leads_to_a_time_that_exists() -> None:
    assert not list(faults(schema_of("TestRun")["properties"]["timeout"], FAR))
    assert datetime(8000, 1, 1, tzinfo=UTC) + parse_duration(FAR) < datetime.max.replace(tzinfo=UTC)
    assert finished(planned(run_object(timeout=FAR, ttlAfterFinished=FAR)))[0] == "NoAgentReady"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z"])
def test_a_time_beyond_the_calendar_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


@pytest.mark.parametrize("status", [
    {"startTime": "9999-12-31T23:59:59Z"},
    {"tasks": [{"name": "unit", "attempt": 1, "startTime": "0001-01-01T00:00:00+23:59"}]},
])  # fmt: skip
def test_a_run_whose_status_cannot_be_read_ends_and_says_so(status: dict[str, Any]) -> None:
    reason, message = finished(planned(run_object(status=status)))

    assert reason == "InvalidSpec"
    assert message.startswith("status.")


def test_a_finished_run_whose_life_cannot_be_reckoned_stays() -> None:
    run = run_object(status={"completionTime": "2026-01-05T12:00:00Z"}, ttlAfterFinished="999999999d")

    assert ttl._due(run) is None


# Statuses that somebody else has written


UNREADABLE = {"type": "Ready", "status": "True", "reason": "x", "lastTransitionTime": "9999-12-31T23:59:59Z"}


def test_a_condition_of_a_run_that_cannot_be_read_is_written_anew() -> None:
    status = planned(run_object(status={"conditions": [UNREADABLE | {"type": "Finished"}]}))

    assert finished(status)[0] == "InvalidSpec"
    assert list(faults(schema_of("TestRun", "status"), status)) == []


def test_a_condition_of_a_pool_that_cannot_be_read_is_written_anew() -> None:
    desk = a_desk()
    desk.see_pool(pool_object("b") | {"status": {"conditions": [UNREADABLE]}})
    status = desk.plan_pool((NAMESPACE, "b"), "t1", NOON).status

    assert [entry["reason"] for entry in status["conditions"]] == ["AgentsStarting", "WithinLimits"]


def test_conditions_of_others_leave_room_for_ours() -> None:
    others = [{"type": f"Other{number}", "status": "True", "reason": "x"} for number in range(16)]
    status = planned(run_object(status={"conditions": others}))

    assert list(faults(schema_of("TestRun", "status"), status)) == []


def test_an_entry_without_an_index_does_not_stop_a_run_that_waits() -> None:
    status = planned(run_object())

    assert keep_waits({"tasks": [{"name": "unit"}]}, status)["tasks"] == status["tasks"]


def test_the_sum_of_many_tests_fits_into_status() -> None:
    assert total([TestCounts(total=MOST_COUNTED)] * 3).total == MOST_COUNTED


# Graphs and conditions that take for ever


def test_who_needs_whom_is_found_out_once_for_all_tasks() -> None:
    names = [f"t{number}" for number in range(700)]
    tasks = [
        a_task_spec(name, needs=names[max(0, number - 64) : number], inputs=[{"from": "t0", "path": "p"}])
        for number, name in enumerate(names[1:], 1)
    ]
    started = time.process_time()

    assert len(a_graph(a_task_spec("t0"), *tasks).cells) == 700
    assert time.process_time() - started < 1.5  # a walk for each task took many times as long


DIGITS = "[0,1,2,3,4,5,6,7,8,9]"
NESTED = f"{DIGITS}.all(a, " * 9 + "true" + ")" * 9
GROWN = f"{DIGITS}" + f".map(x, {DIGITS}.map(y, x))" * 9 + " == []"


@pytest.mark.parametrize("when", [NESTED, GROWN, NESTED.replace("all(", "exists //\n(")])
def test_a_condition_that_would_take_for_ever_is_refused(when: str) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.tasks\[0\]\.when: the run's conditions may take"):
        a_graph(a_task_spec(when=when))


def test_conditions_of_a_large_run_are_counted_together() -> None:
    costly = "tasks.all(t, tasks.all(u, tasks[t] == tasks[u]))"
    a_graph(a_task_spec(when=costly))
    with pytest.raises(InvalidSpec, match="may take"):
        a_graph(*(a_task_spec(f"t{number}", when=costly) for number in range(300)))


@pytest.mark.parametrize("when", ["'a'.matches(params.x)", "'a'.matches('(a{99}){99}')", "matches('a', 'b')"])
def test_a_regular_expression_of_any_size_is_refused(when: str) -> None:
    with pytest.raises(InvalidSpec, match="in quotes"):
        a_graph(a_task_spec(when=when))


@pytest.mark.parametrize(
    "when", ["tasks.all(t, tasks[t].verdict == 'Passed')", "params.suite.matches('^(smoke|all)$')"]
)
def test_usual_conditions_are_allowed_to_every_task_of_a_run(when: str) -> None:
    assert a_graph(*(a_task_spec(f"t{number}", when=when) for number in range(50)))


# What agents say


@pytest.mark.parametrize("said", [
    {"kind": "hello", "pool": "a", "version": "1", "slots": 10**30},
    {"kind": "hello", "pool": "a", "version": "1", "slots": -1},
    {"kind": "alive", "slots": 65},
])  # fmt: skip
def test_slots_that_no_agent_can_have_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="slots"):
        FROM_AGENT.validate_python(said)


@pytest.mark.parametrize("result", [
    {"exitCode": 2**63},
    {"summary": {"tests": {"total": 2**63}}},
    {"summary": {"tests": {"failed": -1}}},
])  # fmt: skip
def test_a_result_that_no_status_can_hold_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TaskResult.model_validate(result)


# Names that lead elsewhere


class NobodyAnswers(Cluster):
    def __init__(self) -> None:
        """Whoever asks this cluster fails."""


@pytest.mark.parametrize("name", ["..", "../configmaps/a", "a?watch=true", "a/../b", "a#b", "", "A", "a\n"])
async def test_a_name_that_no_secret_can_have_is_not_asked_for(name: str) -> None:
    with pytest.raises(carry_out.Refused, match="is no name that a Secret can have") as refused:
        await carry_out.check_test_secrets(NobodyAnswers(), NAMESPACE, [name])
    assert refused.value.reason is Reason.SECRET_MISSING


# Pools whose pods no cluster takes


class Refusing(Cluster):
    def __init__(self, error: ClusterError) -> None:
        """Whatever is created, this is the answer."""
        self._error = error

    async def create(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise self._error


CREATE = CreateDeployment("a-agents-t1", "t1", 1)


@pytest.mark.parametrize("error", [Invalid("memory: may not be less than 0", 422), Forbidden("a policy says no", 403)])
async def test_a_cluster_that_refuses_a_pools_agents_is_a_reason(error: ClusterError) -> None:
    with pytest.raises(carry_out.Refused, match=str(error)) as refused:
        await carry_out.change_agents(Refusing(error), NAMESPACE, ("a", "uid-a", "Job"), {}, CREATE, "-100")
    assert refused.value.reason is Reason.AGENTS_REFUSED


async def test_a_missing_right_says_nothing_of_the_pool() -> None:
    error = Forbidden('system:x cannot create resource "deployments"', 403)
    with pytest.raises(Forbidden):
        await carry_out.change_agents(Refusing(error), NAMESPACE, ("a", "uid-a", "Job"), {}, CREATE, "-100")


def test_a_pool_that_changes_is_asked_about_at_once() -> None:
    desk = a_desk()
    pool = desk.pools[NAMESPACE, "default"]
    pool.asked_at = NOON
    desk.see_pool(pool_object(version=2, maxAgents=7))

    assert pool.asked_at is None


# One object that breaks


class Breaking(Desk):
    def see_run(self, obj: dict[str, Any]) -> None:
        if obj["metadata"]["name"] == "poison":
            raise ZeroDivisionError
        super().see_run(obj)


def test_an_object_that_the_desk_breaks_on_does_not_end_the_leader() -> None:
    desk = Breaking(1, lambda _key, _at: None, NOON)
    for name in ("poison", "good"):
        resync.tell(desk, TESTRUNS, run_object(name))

    assert desk.run_named(NAMESPACE, "good") is not None


# History


def test_history_stores_no_character_that_a_database_refuses() -> None:
    run = run_object("run", a_task_spec(image="a\x00b", matrix={"x": ["\x00"]}), pool="a\x00")
    record = record_of(run)

    assert record.run["pool"] == "a\N{REPLACEMENT CHARACTER}"
    assert not any(
        "\x00" in value for row in (record.run, *record.tasks) for value in row.values() if type(value) is str
    )
