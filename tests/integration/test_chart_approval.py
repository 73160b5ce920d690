"""The chart's policy on approvals in force: who may say yes or no, and in whose name."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import yaml

from chart import needs_helm, of_kind, render, the
from realcluster import Manifest, RealCluster, apply_definitions, namespace_on_cluster

pytestmark = needs_helm
RUN = {
    "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": "asks-"},
    "spec": {"workflowRef": {"name": "checkout"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with namespace_on_cluster("dawg-chart") as cluster:
        apply_definitions(cluster)
        yield cluster


@pytest.fixture(scope="module")
def guarded(cluster: RealCluster) -> Iterator[RealCluster]:
    """The chart's policy for the test's namespace, with a runner and somebody who may approve.

    It warns where the chart's denies: an installed release denies too, and only warnings tell who spoke.
    """
    policy, binding = policy_and_binding(cluster.namespace)
    own = {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}
    constraints = {**policy["spec"]["matchConstraints"], "namespaceSelector": own}
    policy = {**policy, "spec": {**policy["spec"], "matchConstraints": constraints}}
    binding = {**binding, "spec": {**binding["spec"], "validationActions": ["Warn"]}}
    roles = [the(render(cluster.namespace), "Role", name) for name in ("dawg-runner", "dawg-workflow-admin")]
    cluster.done("apply", "-f", "-", stdin=yaml.safe_dump_all([policy, binding, *roles]))
    for role, user in (("dawg-runner", "runner"), ("dawg-workflow-admin", "lead")):
        cluster.done("create", "rolebinding", user, f"--role={role}", f"--user={user}")
    run = cluster.create(RUN)["metadata"]["name"]
    try:
        deadline = time.monotonic() + 60
        while not objection(cluster, run, "Approved by somebody else", "lead", "--dry-run=server"):
            assert time.monotonic() < deadline, "the policy does not come into force"
            time.sleep(0.2)
        yield cluster
    finally:
        for manifest in (policy, binding):
            cluster.done("delete", manifest["kind"], manifest["metadata"]["name"])


def policy_and_binding(namespace: str) -> list[Manifest]:
    found = of_kind(render(namespace), "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    return [manifest for manifest in found if manifest["metadata"]["name"].endswith("-approval")]


def objection(cluster: RealCluster, run: str, said: str | None, user: str, *words: str) -> str:
    """What our own policy has against it that this user writes an approval, or takes it away; empty when nothing."""
    change = {"metadata": {"annotations": {"approval.dawg.dev/ask": said}}}
    speaker = f"ValidatingAdmissionPolicy '{cluster.namespace}-dawg-approval'"
    lines = cluster.patch("testruns.dawg.dev", run, change, f"--as={user}", *words).splitlines()
    return "\n".join(line for line in lines if line.startswith("Warning:") and speaker in line)


@pytest.fixture
def run(guarded: RealCluster) -> str:
    return str(guarded.create(RUN)["metadata"]["name"])


def test_the_policy_denies_and_fails_closed() -> None:
    policy, binding = policy_and_binding("dawg")

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
