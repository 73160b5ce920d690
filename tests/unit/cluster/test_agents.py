"""A pool's agents: their pods and their Deployment."""

from __future__ import annotations

from builders import NAMESPACE, a_pool
from dawg_orchestrator.cluster.agents import agents_template, deployment_manifest
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.resources import names

AROUND = Surroundings("agent:1", "IfNotPresent", "python:3", "https://api:8444", "controller:8443")


def test_an_agent_has_two_tokens_of_our_audiences_and_runs_restricted() -> None:
    pod = agents_template("default", a_pool(), AROUND)

    tokens = next(v for v in pod["volumes"] if v["name"] == "tokens")["projected"]["sources"]
    audiences = {source["serviceAccountToken"]["audience"] for source in tokens}
    assert audiences == {names.CONTROLLER_AUDIENCE, names.API_AUDIENCE}
    security = pod["containers"][0]["securityContext"]
    assert (security["readOnlyRootFilesystem"], security["capabilities"]) == (True, {"drop": ["ALL"]})
    assert pod["serviceAccountName"] == names.AGENT_SERVICE_ACCOUNT


def test_what_agents_are_made_of_decides_their_template_and_the_limits_of_scaling_do_not() -> None:
    plain = agents_template("default", a_pool(), AROUND)

    assert agents_template("default", a_pool(maxAgents=9, jobTemplate={"image": "x"}), AROUND) == plain
    assert agents_template("default", a_pool(slots=9), AROUND) != plain
    assert agents_template("other", a_pool(), AROUND) != plain


def test_a_deployment_belongs_to_its_pool_and_its_agents_are_not_safe_to_evict() -> None:
    pod = agents_template("default", a_pool(), AROUND)

    deployment = deployment_manifest(NAMESPACE, "default", "uid", "name", "hash", pod, 3)

    assert deployment["metadata"]["ownerReferences"][0]["uid"] == "uid"
    template = deployment["spec"]["template"]["metadata"]
    assert template["labels"] == deployment["spec"]["selector"]["matchLabels"]
    assert template["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert deployment["spec"]["replicas"] == 3
