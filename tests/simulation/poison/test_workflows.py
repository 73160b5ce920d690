"""A Workflow that the schema takes and nobody meant: it, its run and the step that starts one get a word of their own,
and the run beside them never notices.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import NAMESPACE
from crdschema import faults, schema_of
from dawg_orchestrator.resources import names
from leader_alone import LeaderAlone
from poison import TEXTS, JsonObject, annotations, examples, junk, specs, spoilt, statuses

PARAMETERS = st.dictionaries(st.sampled_from(TEXTS[:20]), st.sampled_from(TEXTS), max_size=2)
APPROVED = {f"{names.APPROVAL}ok": "Approved by alice"}


def reasons(made: LeaderAlone, kind: str, name: str) -> dict[str, str]:
    status = made.server.get(kind, NAMESPACE, name).get("status") or {}
    assert list(faults(schema_of({"testruns": "TestRun", "workflows": "Workflow"}[kind], "status"), status)) == []
    return {condition["type"]: condition["reason"] for condition in status["conditions"]}


def beside_a_good_run() -> LeaderAlone:
    """A run that passes by itself, and one whose step starts all of a suite."""
    made = LeaderAlone()
    made.workflow("good", {"name": "ok", "uses": "approve"})
    made.workflow("suite", {"name": "tests", "uses": "run-tests", "with": {"suites": ["smoke"]}})
    made.run("good", "good", annotations=APPROVED)
    made.run("starting", "suite")
    return made


async def led(made: LeaderAlone, *others: str) -> None:
    """Two leaders, one after the other, and everybody has had a word."""
    for _ in range(2):
        made.lead()
        await made.look(400)
    assert made.why("good")[0] == "Passed"
    for name in ("starting", *others):
        assert reasons(made, "testruns", name)["Finished"] not in ("", "NotSeen")


@examples(25)
@given(specs("Workflow"), annotations(), PARAMETERS)
def test_a_bad_workflow_says_so_and_so_does_whoever_runs_it(
    spec: JsonObject, said: JsonObject, parameters: dict[str, str]
) -> None:
    made = beside_a_good_run()
    made.workflow("poison", suite="smoke", **spec)
    approvals = {f"{names.APPROVAL}{key}": text for key, text in said.items()}
    made.run("poison", "poison", annotations=approvals, parameters=parameters)

    asyncio.run(led(made, "poison"))

    assert reasons(made, "workflows", "poison")["Ready"] in ("WorkflowReady", "InvalidSpec")


@examples(15)
@given(statuses("TestRun"), st.data())
def test_whatever_somebody_wrote_on_status_or_in_what_was_frozen_stops_nobody(status: JsonObject, data: Any) -> None:
    made = beside_a_good_run()
    made.workflow("slow", suite="smoke")
    made.run("poison", "suite")
    made.lead()
    asyncio.run(made.look(1))
    status.pop("verdict", None)
    made.server.change("testruns", NAMESPACE, "poison", {"status": {**status, "term": 1}}, "user")
    for key, frozen in list(made.server._objects["controllerrevisions"].items()):
        if frozen["metadata"]["name"].startswith("poison"):
            spoiled = data.draw(st.one_of(spoilt(frozen["data"]), junk()))
            made.server._objects["controllerrevisions"][key] = {**frozen, "data": spoiled}

    asyncio.run(led(made, "poison"))
