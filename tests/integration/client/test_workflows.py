"""`dawg workflows`, `workflow`, `queue test`, `graph`, `approve` and `rerun` against a real apiserver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dawg_orchestrator.client.connection import resource_path
from dawg_orchestrator.client.testruns import Run, create_run

from .conftest import Playground

COMMIT = "1" * 40
PARAMETERS = [{"name": "suite", "default": "smoke", "enum": ["smoke", "full"]}]


@pytest.fixture
def workflow(playground: Playground) -> str:
    """A Workflow of two tasks and one for the end, in a suite of its own."""
    body = {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"generateName": "shop-"},
        "spec": {
            "parameters": PARAMETERS,
            "tasks": [{"name": "unit", "run": "true"}, {"name": "e2e", "run": "true", "needs": ["unit"]}],
            "finally": [{"name": "tidy", "run": "true"}],
        },
    }  # fmt: skip
    created = playground.create("workflows", body, api="apis/dawg.dev/v1alpha1")
    name = str(created["metadata"]["name"])
    path = resource_path("workflows", playground.namespace, name)
    playground.cluster.merge(path, {"metadata": {"labels": {"dawg.dev/suite": name}}})
    return name


def a_run(playground: Playground, *tasks: dict[str, Any], **spec: Any) -> Run:
    manifest = {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun",
        "metadata": {"namespace": playground.namespace, "generateName": "run-"},
        "spec": {**({"tasks": list(tasks)} if tasks else {}), **spec},
    }  # fmt: skip
    return create_run(playground.cluster, manifest)


def waiting(name: str, index: int) -> dict[str, Any]:
    return {"name": name, "index": index, "attempt": 0, "reason": "WaitingForApproval", "message": "ship it?"}


def annotations(playground: Playground, run: str) -> dict[str, str]:
    return dict(playground.get_run(run).metadata.get("annotations") or {})


# Start


def test_a_workflow_is_listed_and_started_with_its_parameters(playground: Playground, workflow: str) -> None:
    listed = playground.dawg("workflows")
    started = playground.dawg("workflow", workflow, "-p", "suite=full", "--no-wait", "-o", "json")

    assert workflow in listed.stdout
    run = playground.get_run(json.loads(started.stdout)["metadata"]["name"])
    assert run.name.startswith(f"{workflow}-")
    assert run.spec["workflowRef"] == {"name": workflow}
    assert run.spec["parameters"] == {"suite": "full"}


def test_a_wrong_parameter_starts_nothing_and_names_those_there_are(playground: Playground, workflow: str) -> None:
    result = playground.dawg("workflow", workflow, "-p", "colour=red")

    assert result.exit_code == 64
    assert "it has: suite" in result.output
    runs = playground.cluster.items(resource_path("testruns", playground.namespace))
    assert [run for run in runs if run["spec"].get("workflowRef") == {"name": workflow}] == []


def test_a_suite_starts_each_of_its_workflows(playground: Playground, workflow: str) -> None:
    nothing = playground.dawg("queue", "test", "--suite", "no-such-suite")
    started = playground.dawg("queue", "test", "--suite", workflow, "--priority", "high", "-o", "json")

    assert nothing.exit_code == 64
    assert "dawg.dev/suite=no-such-suite" in nothing.output
    [run] = json.loads(started.stdout)["runs"]
    assert run["spec"]["workflowRef"] == {"name": workflow}
    assert run["spec"]["priority"] == "high"


# Draw


def test_a_graph_is_of_the_workflow_or_of_the_run_of_that_name(playground: Playground, workflow: str) -> None:
    run = a_run(playground, {"name": "only", "run": "true"})
    playground.write_status(run.name, taskVerdicts="P", verdict="Passed")

    of_workflow, of_run = playground.dawg("graph", workflow), playground.dawg("graph", run.name)
    nothing = playground.dawg("graph", "no-such-thing")

    assert f"Workflow {playground.namespace}/{workflow}  3 tasks" in of_workflow.stdout
    assert "finally" in of_workflow.stdout
    assert "only  Passed" in of_run.stdout
    assert nothing.exit_code == 64
    assert "no Workflow and no TestRun 'no-such-thing'" in nothing.output


# Approve


ASKS = ({"name": "one", "uses": "approve"}, {"name": "two", "uses": "approve"})


def test_an_approval_is_written_in_the_name_that_the_apiserver_knows(playground: Playground) -> None:
    run = a_run(playground, *ASKS)
    playground.write_status(run.name, taskVerdicts="..", tasks=[waiting("one", 0), waiting("two", 1)])

    which = playground.dawg("approve", run.name)
    yes = playground.dawg("approve", run.name, "one", "--reason", "seen on staging")
    no = playground.dawg("approve", run.name, "--reject")
    again = playground.dawg("approve", run.name, "one")

    assert (which.exit_code, again.exit_code) == (64, 64)
    assert "name one of one, two" in which.output
    said = annotations(playground, run.name)
    user = said["approval.dawg.dev/two"].removeprefix("Rejected by ")
    assert said["approval.dawg.dev/one"] == f"Approved by {user}: seen on staging"
    assert f"one approved by {user}" in yes.output
    assert f"two rejected by {user}" in no.output
    assert "is decided: Approved by" in again.output


def test_nothing_is_approved_before_its_turn(playground: Playground) -> None:
    run = a_run(playground, {"name": "unit", "run": "true"}, {"name": "ask", "uses": "approve", "needs": ["unit"]})
    playground.write_status(
        run.name, taskVerdicts="..", tasks=[{"name": "ask", "index": 1, "reason": "WaitingForNeeds"}]
    )

    result = playground.dawg("approve", run.name, "ask")

    assert result.exit_code == 64
    assert "tasks that it needs have not ended" in result.output
    assert annotations(playground, run.name) == {}


# Repeat


def test_a_whole_rerun_is_on_the_commit_of_the_old_run(playground: Playground) -> None:
    source = {"git": {"url": "https://git.example/a.git", "revision": "main"}}
    run = a_run(playground, {"name": "unit", "run": "true"}, source=source)
    playground.write_status(run.name, taskVerdicts="F", verdict="Failed", source={"commit": COMMIT})

    result = playground.dawg("rerun", run.name, "--no-wait", "-o", "json")

    again = playground.get_run(json.loads(result.stdout)["metadata"]["name"])
    assert again.spec["source"]["git"]["revision"] == COMMIT
    assert annotations(playground, again.name) == {"dawg.dev/rerun-of": run.name}


def test_of_a_workflow_what_failed_is_repeated_from_what_was_frozen(playground: Playground, workflow: str) -> None:
    run = a_run(playground, workflowRef={"name": workflow})
    frozen = {
        "spec": {
            "workflowRef": {"name": workflow}, "priority": "high", "parameters": {"suite": "full"},
            "tasks": [{"name": "unit", "run": "true"}, {"name": "e2e", "run": "false", "needs": ["unit"]}],
        },
        "stages": {"onFailure": [], "finally": []}, "types": {"suite": "string"},
    }  # fmt: skip
    revision = {
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": f"{run.name}-content"},
        "revision": 1, "data": frozen,
    }  # fmt: skip
    playground.create("controllerrevisions", revision, api="apis/apps/v1")
    playground.write_status(run.name, taskVerdicts="PF", verdict="Failed", workflowRevision=f"{run.name}-content")

    result = playground.dawg("rerun", run.name, "--failed", "--no-wait", "-o", "json")

    again = playground.get_run(json.loads(result.stdout)["metadata"]["name"])
    assert [(task["name"], task["run"], task.get("needs")) for task in again.spec["tasks"]] == [("e2e", "false", None)]
    assert again.spec["priority"] == "high"
    assert "workflowRef" not in again.spec
    assert "counts as passed before: unit" in result.stderr


def test_nothing_failed_starts_nothing_and_is_no_failure(playground: Playground) -> None:
    run = a_run(playground, {"name": "unit", "run": "true"})
    playground.write_status(run.name, taskVerdicts="P", verdict="Passed")

    result = playground.dawg("rerun", run.name, "--failed")

    assert result.exit_code == 0
    assert f"nothing failed in testrun.dawg.dev/{run.name}" in result.output


def test_a_forks_commit_is_approved_on_the_workflow_in_the_name_that_the_apiserver_knows(
    playground: Playground, workflow: str
) -> None:
    done = playground.dawg("approve-fork", workflow, "12", COMMIT)
    nobody = playground.dawg("approve-fork", "no-such-workflow", "12", COMMIT)

    found = playground.cluster.get(resource_path("workflows", playground.namespace, workflow))
    said = found["metadata"]["annotations"]["fork.dawg.dev/12"]
    assert said.startswith(f"Approved {COMMIT} by ")
    assert f"approved by {said.partition(' by ')[2]}" in done.output
    assert nobody.exit_code != 0
    assert "has no Workflow" in nobody.output
