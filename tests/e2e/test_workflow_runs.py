"""Workflows: started by name, with stages, approvals and runs of their own, on what was frozen for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster_at_hand import JsonObject, Kubectl, eventually
from command_line import dawg, dawg_json
from doors import CONTROLLER_PODS
from stories import Story, task

DEPLOYMENT = "deployment/dawg-controller"
ASK = {"name": "ask", "uses": "approve", "with": {"message": "ship it?"}}


@pytest.fixture(scope="module")
def slots(shared: Story) -> str:
    """A warm pool for the stories of this file."""
    return shared.given_pool(executor="Process", minAgents=1, maxAgents=1, slots=4)


def given_workflow(story: Story, pool: str, *tasks: JsonObject, part: str = "", suite: str = "", **spec: Any) -> str:
    """A Workflow of these tasks; returns its name."""
    name = f"workflow-{story.mark}" + (f"-{part}" if part else "")
    labels = {"dawg.dev/suite": suite} if suite else {}
    story.given({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": name, "namespace": story.kubectl.namespace, "labels": labels},
        "spec": {"pool": pool, "tasks": list(tasks), **spec},
    })  # fmt: skip
    return name


def when_started(story: Story, workflow: str, *words: str) -> str:
    """A run of the Workflow, as a person starts it; returns its name."""
    started = dawg_json("workflow", workflow, "--no-wait", *words)
    return story.made("TestRun", started["metadata"]["name"])


def by_name(status: JsonObject) -> dict[str, JsonObject]:
    """The tasks' entries by name."""
    return {entry["name"]: entry for entry in status["tasks"]}


def runs_started_by(story: Story, run: str) -> list[JsonObject]:
    """The runs that the steps of a run have started."""
    return story.kubectl.items("testruns", f"dawg.dev/parent-uid={story.uid('testruns', run)}")


# Parameters and stages


STAGED: dict[str, Any] = {
    "parameters": [
        {"name": "suite", "default": "smoke", "enum": ["smoke", "full"]},
        {"name": "browsers", "type": "integer", "default": "2"},
    ],
    "onFailure": [task("explain", "echo broken")],
    "finally": [task("tidy", "echo tidied")],
}


def given_staged(story: Story, pool: str) -> str:
    return given_workflow(
        story, pool,
        task("unit"),
        task("e2e", 'test "$DAWG_PARAM_SUITE" = smoke', needs=["unit"]),
        task("many", needs=["unit"], when="params.browsers > 2"),
        **STAGED,
    )  # fmt: skip


def test_when_nothing_fails_the_end_comes_and_what_is_for_failures_does_not(story: Story, slots: str) -> None:
    run = when_started(story, given_staged(story, slots), "-p", "browsers=3")

    entries = by_name(story.then_finishes(run))

    told = {name: (entry["verdict"], entry["reason"]) for name, entry in entries.items()}
    assert [told[name][0] for name in ("unit", "e2e", "many", "tidy")] == ["Passed"] * 4
    assert told["explain"] == ("Skipped", "NothingFailed")


def test_after_a_failure_both_come_and_only_what_failed_is_repeated(story: Story, slots: str) -> None:
    run = when_started(story, given_staged(story, slots), "-p", "suite=full")

    status = story.then_finishes(run)
    entries = by_name(status)

    assert status["verdict"] == "Failed"
    assert [entries[name]["verdict"] for name in ("e2e", "explain", "tidy")] == ["Failed", "Passed", "Passed"]
    assert (entries["many"]["verdict"], entries["many"]["reason"]) == ("Skipped", "ConditionFalse")
    assert entries["explain"]["completionTime"] <= entries["tidy"]["startTime"]
    assert "e2e  Failed ExitCode" in dawg("graph", run)
    again = dawg_json("rerun", run, "--failed", "--no-wait")
    repeated = story.then_finishes(story.made("TestRun", again["metadata"]["name"]))
    assert list(by_name(repeated)) == ["e2e"]
    assert (repeated["verdict"], repeated["rerunOf"]) == ("Failed", run)


def test_the_end_comes_also_when_somebody_cancels(story: Story, slots: str) -> None:
    workflow = given_workflow(story, slots, task("long", "sleep 600"), **{"finally": [task("tidy")]})
    run = when_started(story, workflow)
    story.then_task_waits(run, "long", "Running")

    dawg("cancel", run)

    status = story.then_finishes(run)
    entries = by_name(status)
    assert (status["verdict"], entries["long"]["verdict"], entries["tidy"]["verdict"]) == (
        "Cancelled", "Cancelled", "Passed",
    )  # fmt: skip


def test_a_wrong_parameter_is_told_before_there_is_a_run_and_ends_one_that_is_made_otherwise(
    story: Story, slots: str
) -> None:
    workflow = given_staged(story, slots)

    assert "it has: suite, browsers" in dawg("workflow", workflow, "-p", "colour=red", code=64)
    name = f"by-hand-{story.mark}"
    story.given({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun",
        "metadata": {"name": name, "namespace": story.kubectl.namespace},
        "spec": {"workflowRef": {"name": workflow}, "parameters": {"browsers": "many"}},
    })  # fmt: skip
    story.then_finishes(name)
    assert "spec.parameters.browsers: 'many' is no integer" in dawg("why", name)


# Approvals


def given_person(story: Story, role: str, folder: Path) -> list[str]:
    """Somebody with one of the chart's roles; returns the words by which the command acts as that person."""
    namespace, name = story.kubectl.namespace, f"{role}-{story.mark}"
    story.given({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    story.given({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    })  # fmt: skip
    config = json.loads(story.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    token = story.kubectl("create", "token", name).strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    file = folder / f"{role}.json"
    file.write_text(json.dumps(config))
    return ["--kubeconfig", str(file), "--namespace", namespace]


def test_a_run_waits_until_somebody_who_may_approve_has_approved(story: Story, slots: str, tmp_path: Path) -> None:
    lead, runner = (given_person(story, role, tmp_path) for role in ("dawg-workflow-admin", "dawg-runner"))
    workflow = given_workflow(story, slots, ASK, task("release", needs=["ask"]))
    run = when_started(story, workflow)
    story.then_task_waits(run, "ask", "WaitingForApproval")

    assert f"dawg approve {run}" in dawg("why", run)
    assert "needs the verb approve" in dawg("approve", run, *runner, code=4)
    story.then_task_waits(run, "ask", "WaitingForApproval")
    dawg("approve", run, *lead, "--reason", "seen on staging")

    status = story.then_finishes(run)
    entries = by_name(status)
    user = f"system:serviceaccount:{story.kubectl.namespace}:dawg-workflow-admin-{story.mark}"
    assert entries["ask"]["message"] == f"approved by {user}: seen on staging"
    assert (status["verdict"], entries["release"]["verdict"]) == ("Passed", "Passed")
    assert "has ended Passed" in dawg("approve", run, *lead, code=64)


def test_what_needs_an_approval_that_is_refused_does_not_run(story: Story, slots: str) -> None:
    run = when_started(story, given_workflow(story, slots, ASK, task("release", needs=["ask"])))
    story.then_task_waits(run, "ask", "WaitingForApproval")

    dawg("approve", run, "ask", "--reject", "--reason", "wait for the fix")

    entries = by_name(story.then_finishes(run))
    assert (entries["ask"]["verdict"], entries["ask"]["reason"]) == ("Failed", "Rejected")
    assert "wait for the fix" in entries["ask"]["message"]
    assert (entries["release"]["verdict"], entries["release"]["reason"]) == ("Skipped", "NeedNotPassed")


def test_nobody_approves_in_time(story: Story, slots: str) -> None:
    short = {**ASK, "with": {"timeout": "2s"}}
    run = when_started(story, given_workflow(story, slots, short))

    assert by_name(story.then_finishes(run))["ask"]["reason"] == "NotApproved"


# Runs that start runs


def test_suites_are_run_and_the_one_that_fails_is_named(story: Story, slots: str) -> None:
    good, bad = f"good-{story.mark}", f"bad-{story.mark}"
    given_workflow(story, slots, task("a"), part="a", suite=good)
    given_workflow(story, slots, task("b"), part="b", suite=good)
    failing = given_workflow(story, slots, task("c", "exit 1"), part="c", suite=bad)
    tests = {"suites": [good, bad], "first": f'["{failing}","gone"]'}
    whole = given_workflow(
        story, slots, {"name": "tests", "uses": "run-tests", "with": tests},
        {"name": "gate", "uses": "gate", "needs": ["tests"]}, task("publish", needs=["gate"]),
    )  # fmt: skip
    run = when_started(story, whole)

    entries = by_name(story.then_finishes(run))
    children = {child["spec"]["workflowRef"]["name"]: child for child in runs_started_by(story, run)}

    verdicts = sorted(child["status"]["verdict"] for child in children.values())
    assert verdicts == ["Failed", "Passed", "Passed"]
    assert (entries["tests"]["verdict"], entries["tests"]["reason"]) == ("Failed", "RunsFailed")
    assert children[failing]["metadata"]["name"] in entries["tests"]["message"]
    places = {name: child["metadata"]["annotations"].get("dawg.dev/recommended") for name, child in children.items()}
    assert [name for name, place in places.items() if place == "1"] == [failing]
    assert set(places.values()) == {"1", None}
    assert entries["gate"]["verdict"] == "Failed"
    assert entries["publish"]["verdict"] == "Skipped"
    assert "dawg why RUN" in dawg("why", run)


def test_a_suite_is_started_by_name(story: Story, slots: str) -> None:
    suite = f"suite-{story.mark}"
    names = {given_workflow(story, slots, task(), part=part, suite=suite) for part in ("a", "b")}

    started = dawg_json("queue", "test", "--suite", suite)["runs"]

    runs = [story.made("TestRun", run["metadata"]["name"]) for run in started]
    assert {run["spec"]["workflowRef"]["name"] for run in started} == names
    assert [story.then_finishes(run)["verdict"] for run in runs] == ["Passed", "Passed"]


# Frozen content


def then_change_is_known(story: Story, workflow: str) -> None:
    """The controller has looked at the Workflow as it is now."""

    def look() -> bool:
        found = story.kubectl.get("workflows.dawg.dev", workflow)
        assert found is not None
        return found["metadata"]["generation"] == (found.get("status") or {}).get("observedGeneration")

    eventually(look, within=30)


def test_a_run_goes_on_with_what_was_frozen_though_its_workflow_is_changed_and_deleted(
    story: Story, slots: str
) -> None:
    workflow = given_workflow(story, slots, ASK, task("release", 'echo "as it was"', needs=["ask"]))
    run = when_started(story, workflow)
    story.then_task_waits(run, "ask", "WaitingForApproval")

    other = [ASK, task("release", "exit 1", needs=["ask"]), task("added", "exit 1")]
    story.change("workflows.dawg.dev", workflow, tasks=other)
    then_change_is_known(story, workflow)
    changed = when_started(story, workflow)
    story.then_task_ends(changed, "added")
    story.kubectl("delete", "workflows.dawg.dev", workflow)
    for one in (run, changed):
        dawg("approve", one)

    status = story.then_finishes(run)
    assert (status["verdict"], list(by_name(status))) == ("Passed", ["ask", "release"])
    assert status["workflowRevision"]
    assert story.then_finishes(changed)["verdict"] == "Failed"
    assert "release  Passed" in dawg("graph", run)


# Failover


def when_the_controller_is_killed(kubectl: Kubectl) -> None:
    """Every controller's pod at once, and without a word."""
    kubectl("delete", "pods", "--selector", CONTROLLER_PODS, "--grace-period=0", "--force")
    kubectl("rollout", "status", DEPLOYMENT, "--timeout=120s")


def test_who_waits_for_people_and_for_runs_goes_on_after_the_controller_was_killed(
    story: Story, kubectl: Kubectl, slots: str
) -> None:
    inner = given_workflow(story, slots, ASK, task("work", needs=["ask"]), part="inner")
    outer = given_workflow(
        story, slots, {"name": "start", "uses": "start-workflow", "with": {"workflow": inner}}, ASK,
        task("both", needs=["start", "ask"]), part="outer",
    )  # fmt: skip
    run = when_started(story, outer)
    story.then_task_waits(run, "start", "WaitingForRuns")
    (child,) = eventually(lambda: runs_started_by(story, run), within=60)
    name, before = child["metadata"]["name"], story.status(run)["term"]
    story.then_task_waits(name, "ask", "WaitingForApproval")

    when_the_controller_is_killed(kubectl)
    for waiting in (run, name):
        story.then_task_waits(waiting, "ask", "WaitingForApproval")
        dawg("approve", waiting)

    status = story.then_finishes(run)
    entries = by_name(status)
    assert status["term"] > before
    assert [entries[task]["verdict"] for task in ("start", "ask", "both")] == ["Passed"] * 3
    assert [one["metadata"]["name"] for one in runs_started_by(story, run)] == [name], "it was started twice"
    assert entries["both"]["attempt"] == 1
