"""An object that the schema takes and nobody meant gets a word of its own, and the run beside it never notices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NAMESPACE, pool_object, run_object
from crdschema import KINDS, faults, schema_of
from dawg_orchestrator.api.queue import live_run
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.schedule import ScheduleSpec
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import WorkflowSpec
from dawg_orchestrator.store.testrun import record_of
from fuzzed_desk import FuzzedDesk
from poison import JsonObject, examples, metadata, specs, statuses

MODELS: dict[str, type[Model]] = {
    "TestRun": TestRunSpec, "Workflow": WorkflowSpec, "Schedule": ScheduleSpec, "AgentPool": AgentPoolSpec,
}  # fmt: skip


def reasons(status: JsonObject) -> dict[str, str]:
    return {condition["type"]: condition["reason"] for condition in status["conditions"]}


@st.composite
def objects(draw: st.DrawFn, kind: str, **known: Any) -> JsonObject:
    """An object of a kind as the apiserver might serve it."""
    written = draw(statuses(kind)) if draw(st.booleans()) else {}
    written.pop("verdict", None)  # one that has it is over, and nobody looks at it
    identity = {
        "namespace": NAMESPACE, "uid": "uid-poison", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2026-01-05T11:59:00Z", **draw(metadata()), **known,
    }  # fmt: skip
    return {"metadata": identity, "spec": draw(specs(kind)), "status": written}


@examples(20)
@given(objects("TestRun", name="poison"), objects("AgentPool", name="b"))
def test_a_bad_run_ends_or_says_why_it_waits_and_a_good_one_passes(poison: JsonObject, pool: JsonObject) -> None:
    world = FuzzedDesk(pool)
    for run in (poison, run_object("good")):
        world.desk.see_run(run)

    world.pass_time()

    assert world.statuses["good"]["verdict"] == "Passed"
    assert world.pools["default"]["conditions"]
    status = world.statuses["poison"]
    assert list(faults(schema_of("TestRun", "status"), status)) == []
    assert reasons(status)["Finished"] not in ("", "NotSeen")
    assert status.get("verdict") or status["queue"]["reason"] or status["phase"] == "Running"


@examples(12)
@given(objects("AgentPool", name="b"))
def test_a_bad_pool_says_what_is_wrong_and_so_does_the_run_that_wants_it(pool: JsonObject) -> None:
    world = FuzzedDesk(pool)
    world.desk.see_run(run_object("good"))
    world.desk.see_run(run_object("wanting", pool="b"))

    world.pass_time()

    assert world.statuses["good"]["verdict"] == "Passed"
    assert list(faults(schema_of("AgentPool", "status"), world.pools["b"])) == []
    assert reasons(world.pools["b"])["Ready"]
    assert reasons(world.statuses["wanting"])["Finished"] not in ("", "NotSeen")


@examples(12)
@given(objects("TestRun", name="poison"), objects("TestRun", name="poison"))
def test_an_object_that_becomes_another_under_way_stops_nobody(before: JsonObject, later: JsonObject) -> None:
    world = FuzzedDesk(pool_object("b"))
    later["metadata"]["resourceVersion"] = "8"
    for run in (before, run_object("good"), later):
        world.desk.see_run(run)

    world.pass_time()

    assert world.statuses["good"]["verdict"] == "Passed"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_schema_takes_the_models_read(kind: str) -> None:
    model = MODELS[kind]

    @examples(5)
    @given(specs(kind))
    def read(spec: JsonObject) -> None:
        parsed = model.model_validate(spec)
        assert model.model_validate(parsed.wire()) == parsed

    read()


@examples(12)
@given(objects("TestRun"))
def test_the_api_lists_and_records_every_run(run: JsonObject) -> None:
    assert live_run(run).uid == "uid-poison"
    run["status"]["verdict"] = "Failed"
    assert record_of(run).run["verdict"] == "Failed"
