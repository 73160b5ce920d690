"""Who may reach whom, computed from the NetworkPolicies of the rendered chart."""

from __future__ import annotations

from typing import Any

import pytest

from chart import needs_helm, of_kind, render, the
from networkpolicies import Place, may_reach

pytestmark = needs_helm

HOME = "dawg"
NAME = {"app.kubernetes.io/name": "dawg", "app.kubernetes.io/instance": "dawg"}
CONTROLLER = Place(HOME, {**NAME, "app.kubernetes.io/component": "controller", "dawg.dev/role": "controller"})
API = Place(HOME, {**NAME, "app.kubernetes.io/component": "api", "dawg.dev/role": "api"})
AGENT = Place("team-a", {"dawg.dev/role": "agent", "dawg.dev/pool": "default"})
WARM = Place("team-a", {"dawg.dev/role": "agent", "dawg.dev/executor": "Process"})
STEPS = Place("team-a", {"dawg.dev/role": "agent", "dawg.dev/executor": "Builtin"})
TASK = Place("team-a", {"dawg.dev/role": "task"})
STRANGER = Place("elsewhere", {"dawg.dev/role": "agent"})
NEIGHBOUR = Place(HOME, {"app": "something"})
DATABASE = Place("team-a", {"app": "postgres"})
INGRESS = Place("ingress-nginx", {}, {"purpose": "ingress"})
PROMETHEUS = Place("monitoring", {}, {"purpose": "metrics"})
EVERYBODY = {
    "controller": CONTROLLER, "api": API, "agent": AGENT, "task": TASK, "stranger": STRANGER,
    "neighbour": NEIGHBOUR, "ingress": INGRESS, "prometheus": PROMETHEUS,
}  # fmt: skip
INSTALLED: dict[str, Any] = {
    "namespaces": ["team-a"],
    "networkPolicy": {"metricsNamespaceLabels": {"purpose": "metrics"}},
    "api": {
        "ingress": {
            "enabled": True, "host": "h", "tlsSecretName": "t", "controllerNamespaceLabels": {"purpose": "ingress"},
        }
    },
}  # fmt: skip


def who_reaches(target: Place, port: int, **values: Any) -> set[str]:
    policies = of_kind(render(**(values or INSTALLED)), "NetworkPolicy")
    return {
        name for name, source in EVERYBODY.items() if source is not target and may_reach(policies, source, target, port)
    }


def test_pods_of_the_release_carry_the_labels_that_the_policies_select() -> None:
    for place, name in ((CONTROLLER, "dawg-controller"), (API, "dawg-api")):
        labels = the(render(), "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert place.labels.items() <= labels.items()


def test_only_agents_of_watched_namespaces_reach_the_agents_door() -> None:
    assert who_reaches(CONTROLLER, 8443) == {"agent"}


def test_uploads_come_from_agents_sidecars_and_the_controller() -> None:
    assert who_reaches(API, 8444) == {"agent", "task", "controller"}


def test_people_come_through_the_ingress_only() -> None:
    assert who_reaches(API, 8080) == {"ingress"}
    assert who_reaches(API, 8080, namespaces=["team-a"]) == set()


def test_webhooks_come_from_where_senders_are_said_to_be_if_they_are_on() -> None:
    labels = {"purpose": "ingress"}
    assert who_reaches(API, 8082) == set()
    assert who_reaches(API, 8082, namespaces=["team-a"], webhooks={"enabled": True}) == set()
    assert who_reaches(API, 8082, webhooks={"enabled": False, "senderNamespaceLabels": labels}) == set()
    assert who_reaches(API, 8082, webhooks={"enabled": True, "senderNamespaceLabels": labels}) == {"ingress"}


def test_metrics_are_for_prometheus() -> None:
    assert who_reaches(API, 9090) == who_reaches(CONTROLLER, 9090) == {"prometheus"}
    assert who_reaches(API, 9090, namespaces=["team-a"]) == set()


@pytest.mark.parametrize("port", [22, 8000, 8081])
def test_nobody_reaches_agents_and_tests(port: int) -> None:
    assert who_reaches(AGENT, port) == who_reaches(TASK, port) == set()


def test_tests_reach_the_net_unless_it_is_shut() -> None:
    def reached(port: int, target: Place, **tasks: Any) -> bool:
        values: dict[str, Any] = {"namespaces": ["team-a"], "networkPolicy": {"tasks": tasks}}
        return may_reach(of_kind(render(**values), "NetworkPolicy"), TASK, target, port)

    assert reached(5432, DATABASE)
    assert not reached(5432, DATABASE, egress=False)
    assert reached(8444, API, egress=False)
    assert not reached(8443, CONTROLLER)
    assert not reached(8443, CONTROLLER, egress=False)


def test_a_warm_agent_reaches_both_doors_and_what_its_tests_may_reach() -> None:
    def reached(port: int, target: Place, **tasks: Any) -> bool:
        values: dict[str, Any] = {"namespaces": ["team-a"], "networkPolicy": {"tasks": tasks}}
        return may_reach(of_kind(render(**values), "NetworkPolicy"), WARM, target, port)

    assert reached(8443, CONTROLLER, egress=False)
    assert reached(8444, API, egress=False)
    assert reached(5432, DATABASE)
    assert not reached(5432, DATABASE, egress=False)
    assert not reached(22, TASK)


def test_tests_find_names_even_where_the_net_is_shut() -> None:
    policies = of_kind(render(networkPolicy={"tasks": {"egress": False}}, namespaces=["team-a"]), "NetworkPolicy")
    dns = Place("kube-system", {"k8s-app": "kube-dns"})
    assert may_reach(policies, TASK, dns, 53, "UDP")
    assert not may_reach(policies, TASK, dns, 9153)


def test_built_in_steps_reach_services_and_our_doors_and_nobody_reaches_them() -> None:
    policies = of_kind(render(namespaces=["team-a"]), "NetworkPolicy")
    for target, port in ((DATABASE, 5432), (CONTROLLER, 8443), (API, 8444), (Place("elsewhere"), 443)):
        assert may_reach(policies, STEPS, target, port)
    assert not may_reach(policies, TASK, STEPS, 8081)
    assert not may_reach(policies, STEPS, API, 9090)


def test_the_clouds_metadata_service_is_out_of_reach() -> None:
    for policy in ("dawg-tasks", "dawg-warm", "dawg-steps"):
        rules = the(render(), "NetworkPolicy", policy)["spec"]["egress"]
        blocks = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
        assert [block["except"] for block in blocks if block["cidr"] == "0.0.0.0/0"] == [["169.254.169.254/32"]]


def test_drains_take_one_agent_at_a_time_and_never_wait_for_a_single_controller() -> None:
    def budgets(**values: Any) -> set[str]:
        return {budget["metadata"]["name"] for budget in of_kind(render(**values), "PodDisruptionBudget")}

    assert budgets() == {"dawg-agents"}
    assert budgets(controller={"replicas": 2}) == {"dawg-agents", "dawg-controller"}
    assert the(render(), "PodDisruptionBudget", "dawg-agents")["spec"]["maxUnavailable"] == 1
