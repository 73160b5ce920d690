"""The chart's policy on approvals in force: who may say yes or no, and in whose name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chart import needs_helm
from policies import in_force, policy_and_binding, spoken
from realcluster import RealCluster

pytestmark = needs_helm
RUN = {
    "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": "asks-"},
    "spec": {"workflowRef": {"name": "checkout"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(cluster: RealCluster) -> Iterator[RealCluster]:
    """The chart's policy for the test's namespace, with a runner and somebody who may approve."""
    people = {"dawg-runner": "runner", "dawg-workflow-admin": "lead"}
    run = cluster.create(RUN)["metadata"]["name"]
    told = "Approved by somebody else"
    with in_force(
        cluster, "approval", people, lambda: objection(cluster, run, told, "lead", "--dry-run=server")
    ) as there:
        yield there


def objection(cluster: RealCluster, run: str, said: str | None, user: str, *words: str) -> str:
    """What our own policy has against it that this user writes an approval, or takes it away; empty when nothing."""
    change = {"metadata": {"annotations": {"approval.dawg.dev/ask": said}}}
    return spoken(cluster, "approval", cluster.patch("testruns.dawg.dev", run, change, f"--as={user}", *words))


@pytest.fixture
def run(guarded: RealCluster) -> str:
    return str(guarded.create(RUN)["metadata"]["name"])


def test_the_policy_denies_and_fails_closed() -> None:
    policy, binding = policy_and_binding("dawg", "approval")

    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_who_has_the_verb_approves_and_rejects_in_their_own_name(guarded: RealCluster, run: str) -> None:
    assert objection(guarded, run, "Approved by lead", "lead", "--dry-run=server") == ""
    assert objection(guarded, run, "Rejected by lead: not yet", "lead", "--dry-run=server") == ""


@pytest.mark.parametrize("said", ["Approved by runner", "Approved by lead-", "Approved", "approved by lead", "yes"])
def test_nobody_approves_in_another_name_or_in_other_words(guarded: RealCluster, run: str, said: str) -> None:
    assert "an approval names who gives it" in objection(guarded, run, said, "lead", "--dry-run=server")


def test_a_runner_approves_nothing(guarded: RealCluster, run: str) -> None:
    assert "needs the verb approve" in objection(guarded, run, "Approved by runner", "runner", "--dry-run=server")


def test_a_run_is_not_created_with_an_approval_by_somebody_else(guarded: RealCluster) -> None:
    approved = {"generateName": "asks-", "annotations": {"approval.dawg.dev/ask": "Approved by lead"}}

    refused = guarded.refusal({**RUN, "metadata": approved}, "--as=runner")

    assert "an approval names who gives it" in refused


def test_what_somebody_has_decided_stays(guarded: RealCluster, run: str) -> None:
    assert objection(guarded, run, "Rejected by lead: no", "lead") == ""

    for other in ("Approved by lead", None):
        assert "stays as it is" in objection(guarded, run, other, "lead", "--dry-run=server")


def test_whatever_else_changes_about_a_run_needs_no_such_right(guarded: RealCluster, run: str) -> None:
    objection(guarded, run, "Approved by lead", "lead")

    refused = guarded.patch("testruns.dawg.dev", run, {"spec": {"priority": "high"}}, "--as=runner")

    assert "approval" not in refused
