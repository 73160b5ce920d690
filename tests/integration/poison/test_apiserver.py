"""Before a real apiserver: what the schemas take it takes, unless a rule says why not; what it took we can read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given

from builders import NAMESPACE, run_object
from crdschema import KINDS, Schema, schema_of
from dawg_orchestrator.cluster.client import (
    AGENTPOOLS,
    MERGE_PATCH,
    SCHEDULES,
    TESTRUNS,
    WORKFLOWS,
    Cluster,
    Resource,
)
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import Forbidden, Invalid
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.schedule import ScheduleSpec
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import WorkflowSpec
from fuzzed_desk import FuzzedDesk
from leader_alone import LeaderAlone
from poison import JsonObject, examples, metadata, specs, statuses
from realcluster import apply_definitions, namespace_on_cluster

SERVED: dict[str, tuple[Resource, type[Model]]] = {
    "TestRun": (TESTRUNS, TestRunSpec), "Workflow": (WORKFLOWS, WorkflowSpec),
    "Schedule": (SCHEDULES, ScheduleSpec), "AgentPool": (AGENTPOOLS, AgentPoolSpec),
}  # fmt: skip
A_FIELD = re.compile(r"(spec|status|metadata|<nil>)[.\[:]")


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """One that no controller watches."""
    with namespace_on_cluster("dawg-poison") as cluster:
        apply_definitions(cluster)
        yield cluster.namespace


@pytest.fixture
async def apiserver() -> AsyncIterator[Cluster]:
    async with Cluster(find_credentials(), user_agent="dawg-tests") as cluster:
        yield cluster


def rules(schema: Any) -> Iterator[str]:
    """The messages of all rules in a schema."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        for inner in schema.values():
            yield from rules(inner)


def check_refusal(schema: Schema, error: Invalid | Forbidden, whole: JsonObject) -> None:
    """Only a rule may refuse what the schema takes, and it names the field."""
    policies = "a pool's name labels its agents", "spec.gate needs spec.workflowRef", "spec.gate does not go with"
    known = [*policies, *rules(schema)]
    assert any(message in str(error) for message in known), (str(error), whole)
    assert A_FIELD.search(str(error)), str(error)


def drawn(few: int, strategy: Any) -> list[Any]:
    """So many examples of a strategy."""
    found: list[Any] = []

    @examples(few)
    @given(strategy)
    def draw(example: Any) -> None:
        found.append(example)

    draw()
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_schema_takes_is_taken_and_read(kind: str, apiserver: Cluster, namespace: str) -> None:
    resource, model = SERVED[kind]
    taken: list[JsonObject] = []
    for spec, described in zip(drawn(120, specs(kind)), drawn(120, metadata()), strict=False):
        whole = {"apiVersion": "dawg.dev/v1alpha1", "kind": kind, "metadata": described, "spec": spec}
        try:
            taken.append(await apiserver.create(resource, namespace, whole, dryRun="All"))
        except (Invalid, Forbidden) as error:  # by a policy of the chart
            check_refusal(schema_of(kind), error, whole)

    assert len(taken) > 10
    for stored in taken:
        read = model.model_validate(stored["spec"])
        assert read == model.model_validate(read.wire())
    if kind in ("TestRun", "AgentPool"):
        for stored in taken:
            lead(kind, stored)
    if kind == "Workflow":
        for stored in taken:
            await lead_workflow(stored)


def lead(kind: str, stored: JsonObject) -> None:
    """A leader finds this object beside a good run."""
    stored["metadata"] |= {"namespace": NAMESPACE, "name": "poison", "resourceVersion": "7"}
    desk = FuzzedDesk(stored) if kind == "AgentPool" else FuzzedDesk({**run_object("b"), "spec": {}})
    if kind == "TestRun":
        desk.desk.see_run(stored)
    desk.desk.see_run(run_object("good"))
    desk.pass_time()
    assert desk.statuses["good"]["verdict"] == "Passed"
    assert (desk.statuses if kind == "TestRun" else desk.pools)["poison"]["conditions"]


async def lead_workflow(stored: JsonObject) -> None:
    """A leader finds this Workflow, a run of it, and a good one beside them."""
    made = LeaderAlone()
    made.workflow("poison", **stored["spec"])
    made.workflow("good", {"name": "ok", "uses": "approve"})
    made.run("poison", "poison")
    made.run("good", "good", annotations={f"{names.APPROVAL}ok": "Approved by alice"})
    made.lead()
    await made.look(60)
    assert made.why("good")[0] == "Passed"
    assert made.why("poison")[1] not in ("", "NotSeen")


async def test_a_status_that_the_schema_takes_is_taken_and_read(apiserver: Cluster, namespace: str) -> None:
    whole = {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": "run-"}}
    created = await apiserver.create(TESTRUNS, namespace, {**whole, "spec": run_object()["spec"]})
    path = TESTRUNS.path(namespace, created["metadata"]["name"], "status")
    for status in drawn(120, statuses("TestRun")):
        body = {"status": {**status, "term": 1}}
        try:
            stored = await apiserver._request("PATCH", path, body=body, params={"dryRun": "All"}, content=MERGE_PATCH)
        except Invalid as error:
            check_refusal(schema_of("TestRun", "status"), error, status)
            continue
        stored["status"].pop("verdict", None)
        lead("TestRun", stored)
