"""Workflows: the list, the description, and the run that starts one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dawg_orchestrator.client.view_workflows import workflow_view, workflows_view
from dawg_orchestrator.client.workflows import Asked, prefix, run_of
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.names import watch_id
from dawg_orchestrator.resources.testrun import TestRunSpec
from unit.client.runs import a_workflow
from unit.client.test_views import line_with, text_of

NOON = datetime(2026, 5, 1, 12, 5, tzinfo=UTC)
PARAMETERS = [
    {"name": "suite", "default": "smoke", "enum": ["smoke", "full"], "description": "How much"},
    {"name": "browsers", "type": "integer"},
    {"name": "commit", "required": True},
]
NOT_READY = {
    "observedGeneration": 1,
    "conditions": [{"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "needs a circle"}],
}


def test_the_list_says_what_came_of_the_last_run_and_why_one_is_not_ready() -> None:
    ran = {"lastRun": "checkout-x", "lastVerdict": "Failed", "lastRunTime": "2026-05-01T12:00:00Z",
           "conditions": [{"type": "Ready", "status": "True", "reason": "WorkflowReady", "message": ""}]}  # fmt: skip
    found = [a_workflow("checkout", status=ran, description="First line\nsecond"), a_workflow("bad", status=NOT_READY)]

    view = workflows_view(found, "shop", NOON)

    assert line_with("WORKFLOW", view).split(" LAST RUN ")[0] == "WORKFLOW READY SUITE"
    assert line_with("checkout", view) == "checkout True smoke checkout-x Failed 5m ago First line"
    assert line_with("is not ready", view) == "bad is not ready: InvalidSpec: needs a circle"


def test_an_empty_namespace_says_how_to_get_one() -> None:
    assert "kubectl apply -f examples/workflow.yaml" in text_of(workflows_view([], "shop", NOON))


def test_a_description_shows_parameters_and_what_starts_it() -> None:
    triggers = [
        {"webhook": {"event": "released", "secretRef": {"name": "s"}}},
        {"git": {"url": "https://git.example/a.git", "branches": ["main", "feature/*"]}},
        {"pullRequest": {"url": "https://git.example/b.git", "branches": ["main"]}, "mergeGroup": True},
    ]

    view = workflow_view(a_workflow(parameters=PARAMETERS, triggers=triggers), NOON)

    assert line_with("How much", view) == "suite string smoke smoke, full How much"
    assert line_with("required", view) == "commit string required any"
    assert line_with("webhook", view) == "started by the webhook released"
    assert line_with("push", view) == "started by a push to main, feature/* of https://git.example/a.git"
    merged = "started by a pull request into main of https://git.example/b.git, and its merge queue"
    assert line_with("b.git", view) == merged


def test_what_was_seen_of_a_repository_is_shown_with_what_hinders() -> None:
    url = "https://git.example/a.git"
    triggers = [{"git": {"url": url, "credentialsSecretRef": {"name": "robot"}}}, {"git": {"url": "https://o.example"}}]
    branches = {f"b{number}": f"{number}" * 40 for number in range(7)}
    status = {
        "triggers": {"git": {watch_id(url, "robot"): {"globs": "x", "branches": branches}}},
        "conditions": [{"type": "Watching", "status": "False", "reason": "SourceRefused", "message": "no access"}],
    }

    view = workflow_view(a_workflow(triggers=triggers, status=status), NOON)

    assert line_with("seen:", view).endswith("b3 at 333333333333, b4 at 444444444444, 2 more branches")
    assert text_of(view).count("seen:") == 1
    assert line_with("SourceRefused", view) == "not watching SourceRefused: no access"


def test_starting_one_is_a_run_that_names_it() -> None:
    asked = Asked(
        parameters=["suite=full", "commit=a=b"], priority="low", git_url="https://git.example/a.git", revision="main"
    )

    manifest = run_of(a_workflow(parameters=PARAMETERS), asked)

    assert manifest["metadata"] == {"generateName": "checkout-", "namespace": "shop"}
    assert manifest["spec"] == {
        "workflowRef": {"name": "checkout"},
        "parameters": {"suite": "full", "commit": "a=b"},
        "priority": "low",
        "source": {"git": {"url": "https://git.example/a.git", "revision": "main"}},
    }
    assert TestRunSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"parameters": ["commit=1", "colour=red"]}, "--param colour: .*it has: suite, browsers, commit"),
        ({"parameters": ["commit=1", "suite=half"]}, "--param suite: 'half' is not one of smoke, full"),
        ({"parameters": ["commit=1", "browsers=many"]}, "--param browsers: 'many' is no integer"),
        ({"parameters": []}, "--param commit: the Workflow requires this parameter"),
        ({"parameters": ["commit"]}, "'commit' is not NAME=VALUE"),
        ({"parameters": ["commit=1", "commit=2"]}, "commit is given twice"),
        ({"parameters": ["commit=1"], "revision": "main"}, "--revision: goes with --git"),
        ({"parameters": ["commit=1"], "priority": "medium"}, "--priority: medium is what a run has by default"),
    ],
)
def test_what_is_wrong_is_told_before_a_run_is_made(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        run_of(a_workflow(parameters=PARAMETERS, priority="high"), Asked(**asked))


def test_a_workflow_that_cannot_be_carried_out_is_not_started_unless_it_has_changed_since() -> None:
    with pytest.raises(InvalidSpec, match="checkout: cannot be carried out: needs a circle"):
        run_of(a_workflow(status=NOT_READY), Asked())

    assert run_of(a_workflow(status={**NOT_READY, "observedGeneration": 0}), Asked())


def test_a_long_name_leaves_room_for_what_makes_it_unique() -> None:
    assert len(prefix("x" * 200)) <= 58
    assert prefix("a" * 51 + ".b") == "a" * 51 + "-"
