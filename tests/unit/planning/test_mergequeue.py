"""GitHub's merge queue: its branches start what asks for them, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from builders import a_task_spec
from dawg_orchestrator.planning.gitwatch import Look, PushFacts, PushPlan, git_triggers, plan_pushes, plan_watches
from dawg_orchestrator.planning.mergequeue import is_meant, queued
from dawg_orchestrator.resources.workflow import WorkflowSpec

URL = "https://git.example.org/shop/web.git"
OLD, NEW = "a" * 40, "b" * 40
QUEUE = f"gh-readonly-queue/main/pr-12-{OLD}"


def spec(*triggers: dict[str, Any]) -> WorkflowSpec:
    parameters = [{"name": name} for name in ("branch", "base", "pullRequest", "commit")]
    return WorkflowSpec.model_validate({"tasks": [a_task_spec()], "triggers": list(triggers), "parameters": parameters})


def looked_twice(of: WorkflowSpec, branches: dict[str, str]) -> PushPlan:
    """First there is main alone, then these too."""
    (watch,) = git_triggers(of)
    first = plan_pushes(PushFacts("checks", "w-1", of, {}, {watch: Look({"main": OLD})}))
    return plan_pushes(PushFacts("checks", "w-1", of, first.noted, {watch: Look({"main": OLD} | branches)}))


def test_a_group_is_tested_and_gated_on_its_own_commit() -> None:
    checks = spec({"pullRequest": {"url": URL, "paths": ["src/**"], "gate": {}}, "mergeGroup": True})

    (run,) = looked_twice(checks, {QUEUE: NEW}).runs

    assert run.source == {"git": {"url": URL, "revision": NEW}}
    assert run.gate == {"repository": "shop/web", "context": "dawg/checks", "onFlaky": "Allow"}
    assert run.parameters == {"branch": QUEUE, "base": "main", "pullRequest": "12", "commit": NEW}
    assert run.by == f"mergeGroup main {NEW[:12]}"


def test_a_git_trigger_for_all_branches_does_not_mean_the_queue() -> None:
    everything = spec({"git": {"url": URL}})

    assert looked_twice(everything, {QUEUE: NEW}).runs == ()
    assert [run.by for run in looked_twice(everything, {"work": NEW}).runs] == [f"push work {NEW[:12]}"]
    assert looked_twice(spec({"git": {"url": URL, "branches": ["gh-readonly-queue/**"]}}), {QUEUE: NEW}).runs


def test_beside_a_git_trigger_of_the_same_repository_a_group_is_one_run() -> None:
    both = spec({"git": {"url": URL}}, {"pullRequest": {"url": URL}, "mergeGroup": True})
    (watch,) = plan_watches([(both, {})]).values()

    assert watch.branches == ["**", "gh-readonly-queue/**/pr-*"]
    assert len(looked_twice(both, {QUEUE: NEW}).runs) == 1


@pytest.mark.parametrize("trigger", [{"pullRequest": {"url": URL}}, {"pullRequest": {"url": URL}, "mergeGroup": False}])
def test_without_merge_group_no_branch_is_looked_at(trigger: dict[str, Any]) -> None:
    assert git_triggers(spec(trigger)) == {}


def test_only_groups_for_the_bases_that_are_named_are_meant() -> None:
    checks = spec({"pullRequest": {"url": URL, "branches": ["main", "release/*"]}, "mergeGroup": True})

    made = looked_twice(checks, {QUEUE: NEW, f"gh-readonly-queue/docs/pr-3-{OLD}": NEW,
                                 f"gh-readonly-queue/release/1/pr-4-{OLD}": NEW})  # fmt: skip

    assert sorted(run.parameters["base"] for run in made.runs) == ["main", "release/1"]


def test_what_a_branch_of_the_queue_says() -> None:
    assert queued(QUEUE) == ("main", "12")
    assert queued(f"gh-readonly-queue/release/1/pr-4-{OLD}") == ("release/1", "4")
    for other in ("main", "gh-readonly-queue/main", "gh-readonly-queue/main/pr-x-1"):
        assert queued(other) is None
    assert is_meant(["**"], "main")
    assert not is_meant(["**", "*"], QUEUE)
