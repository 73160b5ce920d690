"""The chart's policy on overrides in force: who may let a merge through against its verdict, in whose name, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chart import needs_helm
from dawg_orchestrator.client.overrides import words
from policies import in_force, policy_and_binding, spoken
from realcluster import RealCluster

pytestmark = needs_helm
OVERRIDE = "override.dawg.dev/gate"
SAID = "Allowed by lead: the site is down"
DRY = "--dry-run=server"


def a_run(**changed: Any) -> dict[str, Any]:
    metadata = {"generateName": "fails-", "annotations": changed.pop("annotations", {})}
    spec = {"workflowRef": {"name": "checkout"}, **changed}
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def guarded(cluster: RealCluster) -> Iterator[RealCluster]:
    """The chart's policy for the test's namespace, with a runner, and people who may gate: all, or another Workflow."""
    people = {"dawg-runner": "runner", "dawg-workflow-admin": "lead"}
    run = cluster.create(a_run())["metadata"]["name"]
    with in_force(cluster, "override", people, lambda: objection(cluster, run, "yes", "lead", DRY)) as there:
        there.done("create", "rolebinding", "other", "--role=dawg-runner", "--user=other")
        there.done("create", "role", "gates-other", "--verb=gate", "--resource=workflows.dawg.dev",
                   "--resource-name=another")  # fmt: skip
        there.done("create", "rolebinding", "gates-other", "--role=gates-other", "--user=other")
        yield there


def objection(cluster: RealCluster, run: str, said: str | None, user: str, *words: str) -> str:
    """What our own policy has against it that this user writes an override, or takes it away; empty when nothing."""
    change = {"metadata": {"annotations": {OVERRIDE: said}}}
    return spoken(cluster, "override", cluster.patch("testruns.dawg.dev", run, change, f"--as={user}", *words))


@pytest.fixture
def run(guarded: RealCluster) -> str:
    return str(guarded.create(a_run())["metadata"]["name"])


def test_the_policy_denies_and_fails_closed() -> None:
    policy, binding = policy_and_binding("dawg", "override")

    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


@pytest.mark.parametrize("reason", ["ticket", "it's down: see #12, größer" + "!" * 400])
def test_who_may_gate_overrides_in_their_own_name(guarded: RealCluster, run: str, reason: str) -> None:
    assert objection(guarded, run, words("lead", reason), "lead", DRY) == ""


@pytest.mark.parametrize(
    "said",
    [
        "Allowed by runner: the site is down", "Allowed by lead2: the site is down", "Allowed by lead",
        "Allowed by lead:", "Allowed by lead: ", "Allowed by lead: no", "Allowed by lead:      ",
        "Allowed by lead: two\nlines of it",
        "Allowed by lead: " + "x" * 501, "allowed by lead: the site is down", "Approved by lead: hotfix", "yes", "",
    ],
)  # fmt: skip
def test_nobody_overrides_in_another_name_or_without_a_reason(guarded: RealCluster, run: str, said: str) -> None:
    assert "an override names who gives it, and why" in objection(guarded, run, said, "lead", DRY)


def test_who_may_not_gate_that_workflow_overrides_nothing(guarded: RealCluster, run: str) -> None:
    for user in ("runner", "other"):
        refused = objection(guarded, run, f"Allowed by {user}: the site is down", user, DRY)
        assert 'needs the verb gate on workflows.dawg.dev "checkout"' in refused


def test_a_name_that_would_read_as_another_and_a_reason_overrides_nothing(guarded: RealCluster, run: str) -> None:
    guarded.done("create", "rolebinding", "odd", "--role=dawg-workflow-admin", "--user=lead: odd")

    refused = objection(guarded, run, "Allowed by lead: odd: the site is down", "lead: odd", DRY)

    assert "would read as another name" in refused


def test_no_run_is_created_with_an_override_not_even_with_ones_own(guarded: RealCluster) -> None:
    for user in ("runner", "lead"):
        copy = a_run(annotations={OVERRIDE: f"Allowed by {user}: the site is down"})
        assert "no copy takes an override along" in spoken(guarded, "override", guarded.refusal(copy, f"--as={user}"))


def test_a_run_with_tasks_of_its_own_is_not_overridden(guarded: RealCluster) -> None:
    inline = a_run(tasks=[{"name": "unit", "run": "true"}])
    del inline["spec"]["workflowRef"]
    name = guarded.create(inline)["metadata"]["name"]

    assert "decides over no merge" in objection(guarded, name, SAID, "lead", DRY)


def test_what_somebody_has_overridden_stays(guarded: RealCluster, run: str) -> None:
    assert objection(guarded, run, SAID, "lead") == ""

    for other in ("Allowed by lead: for another reason", "", None):
        assert "stays as it is" in objection(guarded, run, other, "lead", DRY)
    renamed = {"metadata": {"annotations": {OVERRIDE: None, "override.dawg.dev/gat": SAID}}}
    assert "stays as it is" in guarded.patch("testruns.dawg.dev", run, renamed, "--as=lead", DRY)


def test_whatever_else_changes_about_a_run_needs_no_such_right(guarded: RealCluster, run: str) -> None:
    objection(guarded, run, SAID, "lead")

    assert (
        spoken(
            guarded, "override", guarded.patch("testruns.dawg.dev", run, {"spec": {"priority": "high"}}, "--as=runner")
        )
        == ""
    )
