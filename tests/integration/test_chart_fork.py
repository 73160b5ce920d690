"""The chart's policy on forks in force: who may let a stranger's commit run, and in whose name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chart import needs_helm
from policies import in_force, policy_and_binding, spoken
from realcluster import RealCluster

pytestmark = needs_helm
COMMIT, OTHER = "a" * 40, "b" * 64
WORKFLOW = {
    "apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "checks-"},
    "spec": {"tasks": [{"name": "unit", "run": "true"}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(cluster: RealCluster) -> Iterator[RealCluster]:
    """The chart's policy for the test's namespace, with somebody who may gate, and an author who may not."""
    name = cluster.create(WORKFLOW)["metadata"]["name"]
    cluster.done("create", "role", "author", "--verb=create,update,patch,get", "--resource=workflows.dawg.dev")
    cluster.done("create", "rolebinding", "author", "--role=author", "--user=author")
    with in_force(
        cluster, "fork", {"dawg-workflow-admin": "lead"}, lambda: objection(cluster, name, "yes", "lead")
    ) as there:
        yield there


@pytest.fixture
def workflow(guarded: RealCluster) -> str:
    return str(guarded.create(WORKFLOW)["metadata"]["name"])


def objection(
    cluster: RealCluster, workflow: str, said: str | None, user: str, key: str = "7", *, keep: bool = False
) -> str:
    """What our own policy has against it that this user writes an approval, or takes it away; empty when nothing."""
    change = {"metadata": {"annotations": {f"fork.dawg.dev/{key}": said}}}
    words = [f"--as={user}", *([] if keep else ["--dry-run=server"])]
    return spoken(cluster, "fork", cluster.patch("workflows.dawg.dev", workflow, change, *words))


def test_the_policy_denies_and_fails_closed() -> None:
    policy, binding = policy_and_binding("dawg", "fork")

    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


@pytest.mark.parametrize("commit", [COMMIT, OTHER])
def test_who_may_gate_lets_a_commit_run_in_their_own_name(guarded: RealCluster, workflow: str, commit: str) -> None:
    assert objection(guarded, workflow, f"Approved {commit} by lead", "lead") == ""


@pytest.mark.parametrize(
    "said",
    [f"Approved {COMMIT} by author", f"Approved {COMMIT} by lead-", f"Approved {COMMIT} by lead: fine",
     f"Approved {COMMIT[:12]} by lead", f"Approved {COMMIT}", "Approved by lead", f"approved {COMMIT} by lead", "yes",
     f"Approved {COMMIT} by author by lead"],
)  # fmt: skip
def test_nobody_does_in_another_name_in_other_words_or_for_less_than_a_whole_commit(
    guarded: RealCluster, workflow: str, said: str
) -> None:
    assert "write the annotation fork.dawg.dev/NUMBER" in objection(guarded, workflow, said, "lead")


@pytest.mark.parametrize("key", ["0", "x", "7x", "07"])
def test_an_approval_is_of_a_number(guarded: RealCluster, workflow: str, key: str) -> None:
    assert "fork.dawg.dev/NUMBER" in objection(guarded, workflow, f"Approved {COMMIT} by lead", "lead", key)


def test_who_may_write_workflows_but_not_gate_lets_nothing_run(guarded: RealCluster, workflow: str) -> None:
    said = objection(guarded, workflow, f"Approved {COMMIT} by author", "author")

    assert f'needs the verb gate on workflows.dawg.dev "{workflow}"' in said.replace("\\", "")


def test_a_workflow_is_not_created_with_somebody_elses_approval(guarded: RealCluster) -> None:
    metadata = {"name": "copied", "annotations": {"fork.dawg.dev/7": f"Approved {COMMIT} by lead"}}

    refused = guarded.refusal({**WORKFLOW, "metadata": metadata}, "--as=author")

    assert "fork.dawg.dev/NUMBER" in refused


def test_what_was_said_may_be_taken_back_and_holds_up_no_other_change(guarded: RealCluster, workflow: str) -> None:
    assert objection(guarded, workflow, f"Approved {COMMIT} by lead", "lead", keep=True) == ""

    described = guarded.patch("workflows.dawg.dev", workflow, {"spec": {"description": "x"}}, "--as=author")
    assert "fork.dawg.dev" not in described
    assert objection(guarded, workflow, None, "author") == ""
