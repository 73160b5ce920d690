"""What the rendered chart lets service accounts and people do."""

from __future__ import annotations

from typing import Any

import pytest

from chart import VARIANTS, needs_helm, of_kind, render, the

pytestmark = needs_helm


def rules(namespace: str, account: str, *, home: str = "dawg", **values: Any) -> set[tuple[str, str, str]]:
    """(group, resource, verb) that a service account has in a namespace, hooks' own left out."""
    manifests = render(**values)
    granted = set()
    for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding"):
        subjects = {(subject["namespace"], subject["name"]) for subject in binding["subjects"]}
        where = binding["metadata"].get("namespace")
        if (home, account) not in subjects or where not in (None, namespace):
            continue
        role = the(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"], where)
        granted |= {
            (group, resource, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    return granted


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_role_has_a_wildcard_or_lists_secrets(variant: str) -> None:
    for role in of_kind(render(**VARIANTS[variant]), "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            assert not {"pods/exec", "pods/attach"} & set(rule["resources"])


def test_only_reviews_are_asked_for_in_the_whole_cluster() -> None:
    bound = {binding["roleRef"]["name"] for binding in of_kind(render(), "ClusterRoleBinding")}
    asked = {
        resource
        for role in of_kind(render(), "ClusterRole")
        if role["metadata"]["name"] in bound
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    assert asked == {"tokenreviews", "subjectaccessreviews"}


def test_who_stands_in_for_people_that_bring_patches_may_create_runs_and_nothing_else() -> None:
    assert rules("dawg", "dawg-patcher") == {("dawg.dev", "testruns", "create")}


def test_the_controller_creates_jobs_and_no_pods() -> None:
    granted = rules("dawg", "dawg-controller")
    assert ("batch", "jobs", "create") in granted
    assert ("dawg.dev", "testruns/status", "update") in granted
    assert ("", "pods", "create") not in granted
    assert {verb for _, resource, verb in granted if resource == "testruns"} == {
        "get", "list", "watch", "create", "patch", "delete",
    }  # fmt: skip
    assert {
        resource for _, resource, _ in granted if "rolebinding" in resource or resource == "serviceaccounts"
    } == set()


def test_agents_change_nothing() -> None:
    assert {verb for _, _, verb in rules("dawg", "dawg-agent")} == {"get", "list", "watch"}
    assert "secrets" not in {resource for _, resource, _ in rules("dawg", "dawg-agent")}


def test_built_in_steps_read_how_much_pods_use_and_change_deployments_only_where_they_may_roll_back() -> None:
    measured = {("metrics.k8s.io", "pods", verb) for verb in ("get", "list")}
    rollback = {("apps", "deployments", verb) for verb in ("get", "list", "patch")}
    rollback |= {("apps", "replicasets", verb) for verb in ("get", "list")}

    assert rules("dawg", "dawg-steps") == rules("dawg", "dawg-steps", builtin={"enabled": True}) == measured
    assert rules("dawg", "dawg-steps", builtin={"rollback": {"enabled": True}}) == measured | rollback


def test_tests_may_do_nothing() -> None:
    assert rules("dawg", "dawg-task") == set()
    account = the(render(), "ServiceAccount", "dawg-task")
    assert account["automountServiceAccountToken"] is False


def test_the_api_and_viewers_only_read() -> None:
    changing = {"create", "update", "patch", "delete", "deletecollection"}
    api = {(resource, verb) for _, resource, verb in rules("dawg", "dawg-api") if verb in changing}
    assert api == {("tokenreviews", "create"), ("subjectaccessreviews", "create")}
    assert {verb for _, _, verb in rules("dawg", "dawg-viewer")} == {"get", "list", "watch"}


def test_only_with_webhooks_the_api_starts_runs_and_sees_secrets() -> None:
    usual = rules("dawg", "dawg-api")
    added = rules("dawg", "dawg-api", webhooks={"enabled": True}) - usual
    assert added == {("dawg.dev", "workflows", "get"), ("dawg.dev", "testruns", "create"), ("", "secrets", "get")}


def test_rights_end_where_the_watched_namespaces_end() -> None:
    values: dict[str, Any] = {"namespaces": ["team-a"]}
    assert ("batch", "jobs", "create") in rules("team-a", "dawg-controller", **values)
    assert ("batch", "jobs", "create") not in rules("dawg", "dawg-controller", **values)
    assert ("coordination.k8s.io", "leases", "update") in rules("dawg", "dawg-controller", **values)
    assert ("coordination.k8s.io", "leases", "update") not in rules("team-a", "dawg-controller", **values)


def test_people_get_what_their_role_says() -> None:
    def verbs(role: str, resource: str) -> set[str]:
        found = the(render(), "Role", role)["rules"]
        return {verb for rule in found if resource in rule["resources"] for verb in rule["verbs"]}

    assert "create" in verbs("dawg-runner", "testruns")
    assert "create" not in verbs("dawg-runner", "workflows")
    assert "gate" not in verbs("dawg-runner", "workflows")
    assert "gate" in verbs("dawg-workflow-admin", "workflows")
    assert "approve" in verbs("dawg-workflow-admin", "workflows")
    assert "approve" not in verbs("dawg-runner", "workflows")
    assert verbs("dawg-runner", "controllerrevisions") == {"get"}
    assert "create" in verbs("dawg-pool-admin", "agentpools")
    assert verbs("dawg-viewer", "testruns") == {"get", "list", "watch"}
