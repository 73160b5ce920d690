"""The chart's admission policy in force: who may create a run whose verdict opens a merge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart import needs_helm, of_kind, render, the
from realcluster import Manifest, RealCluster, apply_definitions, namespace_on_cluster

pytestmark = needs_helm


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with namespace_on_cluster("dawg-chart") as cluster:
        apply_definitions(cluster)
        yield cluster


@pytest.fixture(scope="module")
def gated(cluster: RealCluster) -> Iterator[RealCluster]:
    """The chart's admission policy for the test's namespace, with people of different roles.

    It warns where the chart's denies: an installed release denies too, and only warnings tell who spoke.
    """
    policy, binding = (dict(manifest) for manifest in policy_and_binding(cluster.namespace))
    own = {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}
    constraints = {**policy["spec"]["matchConstraints"], "namespaceSelector": own}
    policy["spec"] = {**policy["spec"], "matchConstraints": constraints}
    binding["spec"] = {**binding["spec"], "validationActions": ["Warn"]}
    roles = [the(render(cluster.namespace), "Role", name) for name in ("dawg-runner", "dawg-workflow-admin")]
    cluster.done("apply", "-f", "-", stdin=yaml.safe_dump_all([policy, binding, *roles]))
    for role, user in (("dawg-runner", "runner"), ("dawg-workflow-admin", "gatekeeper")):
        cluster.done("create", "rolebinding", user, f"--role={role}", f"--user={user}")
    try:
        deadline = time.monotonic() + 60
        while not objection(cluster, a_gated_run(tasks=[{"name": "a", "run": "true"}])):
            assert time.monotonic() < deadline, "the policy does not come into force"
            time.sleep(0.2)
        yield cluster
    finally:
        for manifest in (policy, binding):
            cluster.done("delete", manifest["kind"], manifest["metadata"]["name"])


def policy_and_binding(namespace: str) -> list[Manifest]:
    found = of_kind(render(namespace), "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    return [manifest for manifest in found if manifest["metadata"]["name"].endswith("-gate")]


def objection(cluster: RealCluster, manifest: Manifest, *words: str) -> str:
    """What our own policy has against an object; empty when nothing."""
    speaker = f"ValidatingAdmissionPolicy '{cluster.namespace}-dawg-gate'"
    lines = cluster.refusal(manifest, *words).splitlines()
    return "\n".join(line for line in lines if line.startswith("Warning:") and speaker in line)


def a_gated_run(**spec: Any) -> Manifest:
    whole = {"gate": {"repository": "org/repo"}, **spec}
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": "gated-"}, "spec": whole}


def test_the_policy_denies_and_fails_closed() -> None:
    policy, binding = policy_and_binding("dawg")
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
