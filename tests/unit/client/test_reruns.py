"""What is run again: what did not pass, and all that this takes from others; and a spec that the product takes."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_spec, a_task_spec
from dawg_orchestrator.client.contents import Content, read_content
from dawg_orchestrator.client.exits import CommandFailed
from dawg_orchestrator.client.rerunning import told
from dawg_orchestrator.client.reruns import choose, restricted, whole
from dawg_orchestrator.client.testruns import Run
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.planning.workflow import content_of, freeze
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import WorkflowSpec
from unit.client.runs import a_run, ended

COMMIT = "1" * 40
task = a_task_spec


def content(*tasks: dict[str, Any], **spec: Any) -> Content:
    return Content(a_spec(*tasks, **spec).wire())


def over(letters: str, **status: Any) -> Run:
    return ended("Failed", "TestsFailed", taskVerdicts=letters, **status)


def again(letters: str, *tasks: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    choice = choose(content(*tasks), over(letters))
    return choice.failed, choice.taken


def needs_of(letters: str, *tasks: dict[str, Any]) -> dict[str, list[str]]:
    """The new run's tasks with what they need; it is one that the product can carry out."""
    known, run = content(*tasks), over(letters)
    spec = TestRunSpec.model_validate(restricted(run, known, choose(known, run))["spec"])
    assert expand(spec).cells
    return {one.name: one.needs for one in spec.tasks or ()}


def test_what_passed_is_flaky_or_was_left_out_by_its_own_condition_is_not_run_again() -> None:
    tasks = [task(name) for name in ("passed", "flaky", "out", "failed", "lost", "slow", "stopped", "skipped")]

    assert again("PLsFITCS", *tasks) == (("failed", "lost", "slow", "stopped", "skipped"), ())


def test_a_task_is_run_again_whole_when_one_of_its_cells_failed() -> None:
    assert again("PPPF", task("a"), task("b", matrix={"x": ["1", "2", "3"]})) == (("b",), ())


def test_files_and_values_that_it_takes_are_made_anew_and_whatever_those_take() -> None:
    tasks = [
        task("source", outputs=["version"]), task("build", needs=["source"]), task("fetch"),
        task("unit", needs=["build", "fetch"], inputs=[{"from": "build", "path": "dist"}]),
        task("deploy", needs=["fetch"], when="tasks['probe'].outputs['up'] == 'yes'"),
        task("probe"), task("scripted", needs=["steps"], run='echo "$DAWG_OUTPUT_STEPS_RUNS"'),
        task("steps", uses="start-workflow", **{"with": {"workflow": "other"}}),
    ]  # fmt: skip

    assert again("PPPFPPPP", *tasks) == (("unit",), ("source", "build"))
    assert again("PPPPFPPP", *tasks) == (("deploy",), ("probe",))
    assert again("PPPPPPFP", *tasks) == (("scripted",), ("steps",))
    assert again("PPPPPPPF", *tasks) == (("steps",), ())


def test_a_condition_that_may_look_at_any_task_brings_all_that_it_waits_for() -> None:
    tasks = [task("a"), task("b", needs=["a"]), task("c"), task("d", needs=["b"], when="size(tasks) > 0")]

    assert again("PPPF", *tasks) == (("d",), ("a", "b"))


def test_needs_on_what_is_left_out_go_and_the_order_of_the_others_stays() -> None:
    tasks = [
        task("build"), task("unit", needs=["build"]), task("report", needs=["unit"], when="true"),
        task("publish", needs=["report", "build"]),
    ]  # fmt: skip

    assert needs_of("PFPS", *tasks) == {"unit": [], "publish": ["unit"]}


def test_a_gate_and_what_comes_after_it_need_a_whole_run() -> None:
    tasks = [task("unit"), task("gate", uses="gate", needs=["unit"]), task("deploy", needs=["gate"]), task("lint")]
    known = content(*tasks)

    choice = choose(known, over("FFSP"))
    after_it = choose(known, over("PPFP"))

    assert (choice.failed, choice.gated, choice.passed) == (("unit",), ("gate", "deploy"), ("lint",))
    assert [line.split(":")[0] for line in told(choice, known)] == [
        "runs again, since it did not pass",
        "counts as passed before",
        "left out, since a gate is decided by a whole run",
        "a run of tasks of its own never gates",
    ]
    assert (after_it.failed, after_it.gated) == (("deploy",), ())


def test_a_run_that_goes_on_or_never_had_tasks_cannot_be_repeated_in_part() -> None:
    with pytest.raises(CommandFailed, match="has not ended"):
        choose(content(task("a")), a_run(taskVerdicts="."))
    with pytest.raises(CommandFailed, match="ended before it had tasks"):
        choose(content(task("a")), ended("Failed", "InvalidSpec", taskVerdicts=""))


def test_nothing_failed_leaves_nothing_to_run() -> None:
    choice = choose(content(task("a"), task("b")), ended("Passed", "TestsPassed", taskVerdicts="PL"))

    assert (choice.failed, choice.gated) == ((), ())


# Runs of Workflows: from what was frozen


def frozen(**workflow: Any) -> Content:
    run = TestRunSpec.model_validate({"workflowRef": {"name": "checkout"}, "parameters": {"suite": "full"}})
    return read_content(freeze(content_of(run, WorkflowSpec.model_validate(workflow))))


PARAMETERS = [{"name": "suite"}, {"name": "browsers", "type": "integer", "default": "2"}]
WORKFLOW = {
    "parameters": PARAMETERS, "priority": "high",
    "tasks": [task("unit"), task("e2e", when="params.suite == 'full'"), task("lint")],
    "onFailure": [task("tell")], "finally": [task("tidy")],
}  # fmt: skip


def test_of_a_workflow_what_was_frozen_is_run_again_as_tasks_of_the_run() -> None:
    known, run = frozen(**WORKFLOW), over("FFPPP", source={"commit": COMMIT})

    manifest = restricted(run, known, choose(known, run))
    spec = TestRunSpec.model_validate(manifest["spec"])

    assert expand(spec).order == ("unit", "e2e")
    assert spec.workflow_ref is None
    assert (spec.priority, spec.parameters) == ("high", {"suite": "full", "browsers": "2"})
    assert manifest["metadata"]["annotations"] == {"dawg.dev/rerun-of": "checkout"}


def test_what_came_at_the_end_comes_after_the_others_whatever_becomes_of_them() -> None:
    known, run = frozen(**WORKFLOW), over("FPPPF")

    choice = choose(known, run)
    tasks = {one["name"]: one for one in restricted(run, known, choice)["spec"]["tasks"]}

    assert choice.staged == ("tidy",)
    assert (tasks["tidy"]["needs"], tasks["tidy"]["when"]) == (["unit"], "true")


def test_a_condition_over_a_number_needs_the_workflow_and_says_so() -> None:
    tasks = [task("unit"), task("many", when="params.browsers > 1")]
    known, run = frozen(parameters=PARAMETERS, tasks=tasks), over("PF")

    with pytest.raises(CommandFailed, match=r"many compares the parameter browsers.*leave --failed out"):
        restricted(run, known, choose(known, run))


# The whole run


def test_a_whole_rerun_is_the_same_spec_on_the_same_commit_and_not_cancelled() -> None:
    spec = {"cancelled": True, "source": {"git": {"url": "https://git.example/a.git", "revision": "main"}}}
    run = a_run("checkout-x7k2p", spec=spec, source={"commit": COMMIT})
    run.metadata["generateName"] = "checkout-"
    run.metadata["labels"] = {"team": "shop", "argocd.argoproj.io/instance": "x", "dawg.dev/schedule": "nightly"}

    manifest = whole(run)

    assert manifest["metadata"] == {
        "generateName": "checkout-", "namespace": "shop", "annotations": {"dawg.dev/rerun-of": "checkout-x7k2p"},
        "labels": {"team": "shop"},
    }  # fmt: skip
    assert manifest["spec"]["source"]["git"] == {"url": "https://git.example/a.git", "revision": COMMIT}
    assert "cancelled" not in manifest["spec"]
    assert manifest["spec"]["tasks"] == run.spec["tasks"]
    assert run.spec["source"]["git"]["revision"] == "main"


def test_of_a_workflow_a_whole_rerun_names_the_workflow() -> None:
    run = a_run(spec={"workflowRef": {"name": "checkout"}, "tasks": None}, workflowRevision="r")

    assert whole(run)["spec"]["workflowRef"] == {"name": "checkout"}
