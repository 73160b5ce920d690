"""A pool's agents: their pods and their Deployment."""

from __future__ import annotations

from builders import NAMESPACE, JsonObject, a_pool
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

    deployment = deployment_manifest(NAMESPACE, ("default", "uid", "Job"), "name", "hash", pod, 3)

    assert deployment["metadata"]["ownerReferences"][0]["uid"] == "uid"
    template = deployment["spec"]["template"]["metadata"]
    assert template["labels"] == deployment["spec"]["selector"]["matchLabels"]
    assert template["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert deployment["spec"]["replicas"] == 3


WARM = {
    "executor": "Process", "slots": 2, "maxTaskDuration": "10m", "jobTemplate": {"image": "mine:1"},
    "warm": {"secrets": [{"name": "llm", "key": "key", "env": "KEY"}], "gitSecrets": [{"name": "git"}],
             "preload": ["pytest"], "services": [{"name": "db", "image": "postgres"}]},
}  # fmt: skip


def warm_containers() -> dict[str, JsonObject]:
    pod = agents_template("warm", a_pool(**WARM), AROUND)
    return {each["name"]: each for each in [*pod["initContainers"], *pod["containers"]]}


def test_a_slot_is_a_container_of_the_pools_image_with_a_user_and_folders_of_its_own() -> None:
    found = warm_containers()
    slots = [found["runner-0"], found["runner-1"]]

    assert [slot["image"] for slot in slots] == ["mine:1", "mine:1"]
    assert len({slot["securityContext"]["runAsUser"] for slot in slots} | {10001}) == 3
    assert all(slot["securityContext"]["readOnlyRootFilesystem"] for slot in slots)
    written = [{m["name"] for m in slot["volumeMounts"] if not m.get("readOnly")} for slot in slots]
    assert not written[0] & written[1]
    assert all("memory" in slot["resources"]["limits"] for slot in slots)


def test_no_slot_holds_a_credential_of_the_platform_or_a_git_secret() -> None:
    pod = agents_template("warm", a_pool(**WARM), AROUND)
    credentials = {v["name"] for v in pod["volumes"] if "projected" in v or "secret" in v}

    assert credentials == {"tokens", "kube-token", "git-0"}
    assert pod["automountServiceAccountToken"] is False
    for name, container in warm_containers().items():
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted & credentials == (credentials if name == "agent" else set())


def test_a_warm_agent_may_finish_the_longest_task_that_its_pool_admits() -> None:
    assert agents_template("warm", a_pool(**WARM), AROUND)["terminationGracePeriodSeconds"] > 600


def test_agents_of_built_in_steps_hold_the_git_secrets_of_their_pool_as_folders() -> None:
    pod = agents_template("builtin", a_pool(executor="Builtin", builtin={"gitSecrets": [{"name": "forge"}]}), AROUND)

    volume = next(one for one in pod["volumes"] if one.get("secret", {}).get("secretName") == "forge")
    mount = next(one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"])
    assert (mount["mountPath"], mount["readOnly"], volume["secret"]["optional"]) == ("/git-secrets/forge", True, True)


BUILTIN = {
    "executor": "Builtin", "maxTaskDuration": "10m",
    "builtin": {"secrets": [{"name": "chat", "key": "url", "env": "CHAT"}, {"name": "db", "key": "url", "env": "DB"}]},
}  # fmt: skip


def test_an_agent_of_built_in_steps_holds_the_pools_secrets_and_says_which_they_are() -> None:
    pod = agents_template("builtin", a_pool(**BUILTIN), AROUND)
    env = {entry["name"]: entry for entry in pod["containers"][0]["env"]}

    assert env["CHAT"]["valueFrom"]["secretKeyRef"] == {"name": "chat", "key": "url"}
    assert env["DAWG_STEP_SECRETS"]["value"] == "CHAT,DB"
    assert env["DAWG_EXECUTOR"]["value"] == "Builtin"


def test_an_agent_of_built_in_steps_has_rights_of_its_own_and_runs_no_tests() -> None:
    pod = agents_template("builtin", a_pool(**BUILTIN), AROUND)

    assert pod["serviceAccountName"] == names.STEPS_SERVICE_ACCOUNT
    assert [container["name"] for container in pod["containers"]] == ["agent"]
    assert pod["terminationGracePeriodSeconds"] > 600  # nobody else could end its steps
