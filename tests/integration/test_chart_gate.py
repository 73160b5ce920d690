"""The chart's admission policy in force: who may create a run whose verdict opens a merge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chart import needs_helm
from policies import in_force, policy_and_binding, spoken
from realcluster import Manifest, RealCluster

pytestmark = needs_helm


@pytest.fixture(scope="module")
def gated(cluster: RealCluster) -> Iterator[RealCluster]:
    """The chart's admission policy for the test's namespace, with people of different roles."""
    people = {"dawg-runner": "runner", "dawg-workflow-admin": "gatekeeper"}
    inline = a_gated_run(tasks=[{"name": "a", "run": "true"}])
    with in_force(cluster, "gate", people, lambda: objection(cluster, inline)) as there:
        yield there


def objection(cluster: RealCluster, manifest: Manifest, *words: str) -> str:
    """What our own policy has against an object; empty when nothing."""
    return spoken(cluster, "gate", cluster.refusal(manifest, *words))


def a_gated_run(**spec: Any) -> Manifest:
    whole = {"gate": {"repository": "org/repo"}, **spec}
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": "gated-"}, "spec": whole}


def test_the_policy_denies_and_fails_closed() -> None:
    policy, binding = policy_and_binding("dawg", "gate")
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_a_run_with_tasks_of_its_own_cannot_gate(gated: RealCluster) -> None:
    run = a_gated_run(tasks=[{"name": "a", "run": "true"}])
    assert "spec.gate needs spec.workflowRef" in objection(gated, run)
    assert "spec.gate needs spec.workflowRef" in objection(gated, run, "--as=gatekeeper")


def test_a_gate_needs_the_verb_on_that_workflow(gated: RealCluster) -> None:
    run = a_gated_run(workflowRef={"name": "checkout"})
    assert 'needs the verb gate on workflows.dawg.dev "checkout"' in objection(gated, run, "--as=runner")
    assert objection(gated, run, "--as=gatekeeper") == ""


def test_a_patched_source_cannot_gate_whoever_asks(gated: RealCluster) -> None:
    source = {"git": {"url": "https://git.example/shop.git"}, "patchRef": "sha256:" + "0" * 64}
    run = a_gated_run(workflowRef={"name": "checkout"}, source=source)
    assert "spec.gate does not go with spec.source.patchRef" in objection(gated, run, "--as=gatekeeper")


def test_a_run_without_a_gate_needs_no_such_right(gated: RealCluster) -> None:
    run = a_gated_run(tasks=[{"name": "a", "run": "true"}])
    del run["spec"]["gate"]
    assert objection(gated, run, "--as=runner") == ""


def test_a_schedule_gates_by_its_authors_right(gated: RealCluster) -> None:
    template = {"spec": {"workflowRef": {"name": "checkout"}, "gate": {"repository": "org/repo"}}}
    schedule = {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Schedule", "metadata": {"generateName": "nightly-"},
        "spec": {"cron": ["0 2 * * *"], "runTemplate": template},
    }  # fmt: skip
    gated.done("create", "role", "scheduler", "--verb=create", "--resource=schedules.dawg.dev")
    gated.done("create", "rolebinding", "scheduler", "--role=scheduler", "--user=scheduler")
    assert "needs the verb gate" in objection(gated, schedule, "--as=scheduler")
    assert objection(gated, schedule, "--as=gatekeeper") == ""


@pytest.fixture(scope="module")
def author(gated: RealCluster) -> str:
    """Who may write Workflows, and not gate."""
    gated.done("create", "role", "author", "--verb=create,update", "--resource=workflows.dawg.dev")
    gated.done("create", "rolebinding", "author", "--role=author", "--user=author")
    return "author"


@pytest.mark.parametrize("kind", ["git", "pullRequest"])
def test_a_workflow_whose_trigger_gates_is_written_by_who_may_gate(gated: RealCluster, author: str, kind: str) -> None:
    git = {"url": "https://git.example.org/shop/web.git", "gate": {}}
    workflow = {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "checks"},
        "spec": {"tasks": [{"name": "a", "run": "true"}], "triggers": [{kind: git}]},
    }  # fmt: skip

    assert 'needs the verb gate on workflows.dawg.dev "checks"' in objection(gated, workflow, f"--as={author}")
    assert objection(gated, workflow, "--as=gatekeeper") == ""
    del git["gate"]
    assert objection(gated, workflow, f"--as={author}") == ""
