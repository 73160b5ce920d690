"""An object that the schema takes and nobody meant gets a word of its own, and the run beside it never notices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NAMESPACE, NOON, a_result, pod_object, pool_object, run_object
from crdschema import KINDS, faults, schema_of
from dawg_orchestrator.api.queue import live_run
from dawg_orchestrator.controller.desk import Desk, Peer
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import Hello, Report
from dawg_orchestrator.resources.schedule import ScheduleSpec
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import WorkflowSpec
from dawg_orchestrator.store.testrun import record_of
from poison import JsonObject, annotations, examples, labels, names, specs, statuses

MODELS: dict[str, type[Model]] = {
    "TestRun": TestRunSpec, "Workflow": WorkflowSpec, "Schedule": ScheduleSpec, "AgentPool": AgentPoolSpec,
}  # fmt: skip
LOOKS = 6
BETWEEN = timedelta(minutes=6)  # longer than a run waits for a pool that is not there


class World:
    """A desk that leads two pools of an agent each, one sound and one as it comes; every test passes."""

    def __init__(self, pool: JsonObject) -> None:
        self.desk = Desk(2, lambda _key, _at: None, NOON - timedelta(hours=1))
        self.statuses: dict[str, JsonObject] = {}
        self.pools: dict[str, JsonObject] = {}
        for there in (pool_object(), pool):
            self.desk.see_pool(there)
            self.desk.see_pod(pod_object(f"agent-of-{there['metadata']['name']}", there["metadata"]["name"]))
        self.now = NOON

    def pass_time(self) -> None:
        """Look at everything a few times; all that is started passes."""
        for _ in range(LOOKS):
            for pod in self.desk.agent_pods.values():
                hello = Hello(pool=pod.pool, version="1", slots=4)
                self.desk.hear_hello(Peer(pod.uid, pod.pod, NAMESPACE, pod.pool), hello, self.now)
            self.desk.end_silent(self.now)
            for run in list(self.desk.runs.values()):
                plan = self.desk.plan_run(run, self.now)
                self.statuses[run.name] = run.status = plan.status
                if plan.finished:
                    self.desk.drop_run(run.uid)
            for key in list(self.desk.pools):
                self.pools[key[1]] = self.desk.plan_pool(key, "t1", self.now).status
                for given_ in self.desk.assign(key, self.now):
                    lease = self.desk.start(given_, self.now)
                    said = Report(lease=lease.id, attempt=lease.attempt, result=a_result())
                    self.desk.hear(lease.agent, said, self.now)
            self.now += BETWEEN


def reasons(status: JsonObject) -> dict[str, str]:
    return {condition["type"]: condition["reason"] for condition in status["conditions"]}


@st.composite
def objects(draw: st.DrawFn, kind: str, **metadata: Any) -> JsonObject:
    """An object of a kind as the apiserver might serve it."""
    written = draw(statuses(kind)) if draw(st.booleans()) else {}
    written.pop("verdict", None)  # one that has it is over, and nobody looks at it
    identity = {
        "namespace": NAMESPACE, "name": draw(names()), "uid": "uid-poison", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2026-01-05T11:59:00Z", "labels": draw(labels()), "annotations": draw(annotations()),
    }  # fmt: skip
    return {"metadata": identity | metadata, "spec": draw(specs(kind)), "status": written}


@examples(20)
@given(objects("TestRun", name="poison"), objects("AgentPool", name="b"))
def test_a_bad_run_ends_or_says_why_it_waits_and_a_good_one_passes(poison: JsonObject, pool: JsonObject) -> None:
    world = World(pool)
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
    world = World(pool)
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
    world = World(pool_object("b"))
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
