"""The chart before a real apiserver: what it installs, keeps and refuses."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import NOON, a_run_of, ended, waiting
from chart import AUTHORITY, CHART, OWN_CERTIFICATE, VARIANTS, needs_helm, of_kind, refusal, render, the
from dawg_orchestrator.planning.cron import check_cron
from dawg_orchestrator.planning.facts import WorkflowFact
from dawg_orchestrator.planning.plan import RunPlan, StartRuns
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.planning.workflow import check_workflow
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.workflow import WorkflowSpec
from dawg_orchestrator.settings import S3Settings
from realcluster import ROOT, Manifest, RealCluster

pytestmark = needs_helm


def environment(deployment: Manifest) -> dict[str, Any]:
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_apiserver_takes_everything_that_is_rendered(variant: str, cluster: RealCluster) -> None:
    values = {**VARIANTS[variant]}
    if "namespaces" in values:
        values["namespaces"] = [cluster.namespace, "default"]
    everything = {"apiVersion": "v1", "kind": "List", "items": render(cluster.namespace, **values)}
    apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"]
    RealCluster("").done(*apply, stdin=json.dumps(everything))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_is_restricted(variant: str, cluster: RealCluster) -> None:
    cluster.done("label", "--overwrite", "ns", cluster.namespace, "pod-security.kubernetes.io/enforce=restricted")
    for owner in of_kind(render(**VARIANTS[variant]), "Deployment", "Job"):
        spec = owner["spec"]["template"]["spec"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-"}}
        assert cluster.refusal({**pod, "spec": {**spec, "serviceAccountName": "default"}}) == ""
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]


def test_a_pod_that_is_not_restricted_would_be_noticed(cluster: RealCluster) -> None:
    cluster.done("label", "--overwrite", "ns", cluster.namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    assert 'violates PodSecurity "restricted' in cluster.refusal(pod)


# Install, upgrade, uninstall


def test_definitions_and_history_outlive_the_release() -> None:
    manifests = render()
    for manifest in [
        *of_kind(manifests, "CustomResourceDefinition"),
        the(manifests, "PersistentVolumeClaim", "dawg-data"),
    ]:
        assert manifest["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_definitions_are_those_of_the_checkout() -> None:
    rendered = {manifest["metadata"]["name"]: manifest for manifest in of_kind(render(), "CustomResourceDefinition")}
    committed = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert {crd["metadata"]["name"]: crd["spec"] for crd in committed} == {
        name: manifest["spec"] for name, manifest in rendered.items()
    }


def test_the_pool_of_built_in_steps_is_there_when_it_is_asked_for() -> None:
    def pools(**values: Any) -> dict[str, Any]:
        orders = json.loads(the(render(**values), "ConfigMap", "dawg-apply-pools")["data"]["orders.json"])
        return {pool["metadata"]["name"]: pool["spec"] for pool in orders["apply"]}

    assert set(pools()) == {"default", "warm"}
    secrets = [{"name": "chat", "key": "url", "env": "CHAT"}]
    builtin = pools(builtin={"enabled": True, "secrets": secrets})["builtin"]
    assert builtin == {
        "executor": "Builtin", "minAgents": 1, "maxAgents": 2, "slots": 16, "builtin": {"secrets": secrets},
    }  # fmt: skip
    AgentPoolSpec.model_validate(builtin)


EVERY_WORKFLOW: dict[str, Any] = {
    "builtin": {"enabled": True, "rollback": {"enabled": True}},
    "workflows": {
        "notify": {"to": [{"secret": "MAIL"}], "webhooks": ["http://hook/"]},
        "continuousMonitoring": {
            "enabled": True, "checks": [{"name": "shop", "tcp": "shop:80"}], "suites": ["smoke"],
            "metrics": {"responseTimes": [{"name": "shop", "url": "http://shop/"}]},
        },
        "postDeployment": {
            "enabled": True, "matchLabels": {"a": "b"}, "integration": ["integration"], "rollback": True,
        },
        "preReleaseTesting": {
            "enabled": True, "blockAt": "high", "git": [{"url": "https://git.example/shop.git", "gate": {}}],
            "pullRequests": [{"url": "https://git.example/shop.git", "gate": {}, "mergeGroup": True}],
        },
        "autoFix": {"enabled": True},
    },
    "schedules": {
        name: {"enabled": True} for name in ("smoke", "integration", "fullSuite", "performance", "aiQuality")
    },
}  # fmt: skip


def test_each_workflow_and_schedule_of_the_values_can_be_carried_out(cluster: RealCluster) -> None:
    orders = json.loads(
        the(render(cluster.namespace, **EVERY_WORKFLOW), "ConfigMap", "dawg-apply-pools")["data"]["orders.json"]
    )
    found = [one for one in orders["apply"] if one["kind"] != "AgentPool"]

    assert [cluster.refusal(one, "--validate=strict") for one in found] == [""] * 10
    for one in found:
        if one["kind"] == "Workflow":
            check_workflow(WorkflowSpec.model_validate(one["spec"]))
        else:
            check_cron(one["spec"]["cron"], one["spec"]["timezone"])


def pre_release_testing(**values: Any) -> WorkflowSpec:
    """The Workflow as it is rendered for a repository."""
    values = {"enabled": True, "git": [{"url": "https://forge.example/shop.git"}], **values}
    manifests = render(builtin={"enabled": True}, workflows={"preReleaseTesting": values})
    orders = json.loads(the(manifests, "ConfigMap", "dawg-apply-pools")["data"]["orders.json"])
    return WorkflowSpec.model_validate(next(one for one in orders["apply"] if one["kind"] == "Workflow")["spec"])


def after_prediction(workflow: WorkflowSpec, *later: TaskState, **outputs: str) -> RunPlan:
    """A run of it whose prediction has left these outputs."""
    tasks = len(workflow.tasks) + len(workflow.finally_)
    states = (ended(), ended(), *later, *(waiting(),) * (tasks - 2 - len(later)))
    suites = {"unit": WorkflowFact("smoke"), "web": WorkflowFact("integration", takes_recommended=True)}
    return plan_testrun(
        a_run_of(workflow, states=states, outputs={1: outputs}, workflows=suites, started_at=NOON), NOON
    )


@pytest.mark.parametrize(("outputs", "started"), [
    ({}, [("unit", "high", 0), ("web", "high", 0)]),
    ({"level": "low"}, [("unit", "low", 0), ("web", "low", 0)]),
    ({"level": "critical", "suites": "[]"}, [("unit", "critical", 0), ("web", "critical", 0)]),
    ({"level": "medium", "suites": '["web","gone"]'}, [("web", "medium", 1), ("unit", "medium", 0)]),
])  # fmt: skip
def test_tests_of_a_push_are_as_urgent_as_predicted_and_what_is_likely_to_fail_comes_first(
    outputs: dict[str, str], started: list[tuple[str, str, int]]
) -> None:
    plan = after_prediction(pre_release_testing(), **outputs)

    runs = [run for action in plan.actions if isinstance(action, StartRuns) for run in action.runs]
    assert [(run.workflow, run.priority, run.recommended) for run in runs] == started


def test_suites_that_want_to_know_are_told_the_tests_to_run_first() -> None:
    plan = after_prediction(pre_release_testing(), level="low", tests='["tests/test_web.py"]')

    runs = [run for action in plan.actions if isinstance(action, StartRuns) for run in action.runs]
    assert [run.parameters for run in runs] == [{}, {"recommended": '["tests/test_web.py"]'}]


@pytest.mark.parametrize(("block_at", "outputs", "merge"), [
    ("", {"level": "critical", "block": "true"}, ("True", "MergeAllowed")),
    ("high", {"level": "medium", "block": "false"}, ("True", "MergeAllowed")),
    ("high", {"level": "high", "block": "true"}, ("False", "RiskTooHigh")), ("high", {}, ("False", "RiskTooHigh")),
])  # fmt: skip
def test_from_a_level_on_the_merge_is_blocked_though_the_tests_pass(
    block_at: str, outputs: dict[str, str], merge: tuple[str, str]
) -> None:
    workflow = pre_release_testing(blockAt=block_at)
    assert (workflow.tasks[1].with_ or {}).get("blockAt") == (block_at or None)

    plan = after_prediction(workflow, ended(), **outputs)

    (found,) = [one for one in plan.status["conditions"] if one["type"] == "MergeAllowed"]
    assert (found["status"], found["reason"]) == merge


def test_the_pools_are_applied_in_every_watched_namespace_by_a_hook() -> None:
    manifests = render(namespaces=["a", "b"], defaultPool={"maxAgents": 9}, defaultTaskImage="tests:1")
    orders = json.loads(the(manifests, "ConfigMap", "dawg-apply-pools")["data"]["orders.json"])
    assert [(pool["metadata"]["namespace"], pool["metadata"]["name"]) for pool in orders["apply"]] == [
        ("a", "default"), ("a", "warm"), ("b", "default"), ("b", "warm"),
    ]  # fmt: skip
    assert orders["apply"][0]["spec"] == {
        "executor": "Job", "minAgents": 2, "maxAgents": 9, "slots": 4, "jobTemplate": {"image": "tests:1"},
    }  # fmt: skip


def test_what_hooks_leave_behind_is_nothing() -> None:
    hooks = [manifest for manifest in render() if "helm.sh/hook" in manifest["metadata"].get("annotations", {})]
    assert {manifest["kind"] for manifest in hooks} == {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Job"}
    for manifest in hooks:
        assert "hook-succeeded" in manifest["metadata"]["annotations"]["helm.sh/hook-delete-policy"]


def test_the_default_pools_are_taken_as_they_are(cluster: RealCluster) -> None:
    orders = json.loads(the(render(cluster.namespace), "ConfigMap", "dawg-apply-pools")["data"]["orders.json"])
    for pool in orders["apply"]:
        assert cluster.refusal(pool, "--validate=strict") == ""


@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        ({}, "Recreate"),
        ({"api": {"database": {"url": "postgresql+asyncpg://db/dawg"}}}, "Recreate"),
        ({"api": {"files": {"url": "s3://dawg", "secretName": "keys"}}}, "Recreate"),
        (VARIANTS["two apis"], "RollingUpdate"),
    ],
)
def test_the_api_rolls_only_where_two_may_write(values: dict[str, Any], strategy: str) -> None:
    assert the(render(**values), "Deployment", "dawg-api")["spec"]["strategy"]["type"] == strategy


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two apis with nothing": ({"api": {"replicas": 2}}, "/api/files/url"),
    "two apis on SQLite": (
        {"api": {"replicas": 2, "files": {"url": "s3://dawg", "secretName": "keys"}}},
        "at '/api/database/url': '' does not match pattern '^postgresql'",
    ),
    "two apis on SQLite by its URL": (
        {"api": {
            "replicas": 2, "database": {"url": "sqlite:///x"}, "files": {"url": "s3://dawg", "secretName": "keys"},
        }},
        "/api/database",
    ),
    "two apis with files on a volume": (
        {"api": {"replicas": 2, "database": {"secretName": "db"}, "persistence": {"accessMode": "ReadWriteMany"}}},
        "at '/api/files/url': '' does not match pattern '^s3://'",
    ),
    "a bucket without its keys": ({"api": {"files": {"url": "s3://dawg"}}}, "/api/files/secretName"),
    "no bucket": ({"api": {"files": {"url": "https://dawg", "secretName": "keys"}}}, "/api/files/url"),
    "webhooks in the clear": (
        {"webhooks": {"enabled": True, "senderNamespaceLabels": {"a": "b"}, "ingress": {"enabled": True, "host": "h"}}},
        "tlsSecretName",
    ),
    "a way to webhooks that leads nowhere": (
        {"webhooks": {"ingress": {"enabled": True, "host": "h", "tlsSecretName": "t"}}}, "/webhooks",
    ),
    "a rollback without the right": (
        {"workflows": {"postDeployment": {"enabled": True, "matchLabels": {"a": "b"}, "rollback": True}}},
        "needs builtin.rollback.enabled",
    ),
    "a block without an analysis": (
        {"workflows": {"preReleaseTesting": {"enabled": True, "blockAt": "high"}}},
        "blockAt needs its git or pullRequests",
    ),
    "a misspelt word": ({"controler": {"replicas": 2}}, "controler"),
    "a misspelt word inside": ({"controller": {"replica": 2}}, "replica"),
    "a namespace": ({"namespaces": ["Team A"]}, "/namespaces/0"),
    "an ingress in the clear": (
        {"api": {"ingress": {"enabled": True, "host": "h", "controllerNamespaceLabels": {"a": "b"}}}}, "tlsSecretName",
    ),
    "an ingress from everywhere": (
        {"api": {"ingress": {"enabled": True, "host": "h", "tlsSecretName": "t"}}}, "controllerNamespaceLabels",
    ),
    "an own certificate without its authority": (
        {"tls": {"mode": "existingSecret", "existingSecret": "s"}}, "caBundle",
    ),
    "no issuer": ({"tls": {"mode": "certManager", "caBundle": "x"}}, "issuerRef"),
    "no replica": ({"controller": {"replicas": 0}}, "/controller/replicas"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_cannot_work_are_refused(name: str) -> None:
    values, place = REFUSED[name]
    assert place in refusal(**values)


def test_every_value_is_described_by_the_schema() -> None:
    def paths(values: dict[str, Any], schema: dict[str, Any], before: str = "") -> Iterator[str]:
        for name, value in values.items():
            described = schema.get("properties", {}).get(name)
            if described is None:
                yield f"{before}{name}"
            elif isinstance(value, dict) and "properties" in described:
                yield from paths(value, described, f"{before}{name}.")

    schema = json.loads((CHART / "values.schema.json").read_text())
    assert list(paths(yaml.safe_load((CHART / "values.yaml").read_text()), schema)) == []


# Settings


def test_the_api_has_a_volume_unless_history_and_files_are_elsewhere() -> None:
    def volumes(**api: Any) -> tuple[bool, int]:
        manifests = render(api=api)
        spec = the(manifests, "Deployment", "dawg-api")["spec"]["template"]["spec"]
        return "data" in {one["name"] for one in spec["volumes"]}, len(of_kind(manifests, "PersistentVolumeClaim"))

    elsewhere = VARIANTS["two apis"]["api"]
    assert volumes() == (True, 1)
    assert volumes(database=elsewhere["database"]) == (True, 1)
    assert volumes(files=elsewhere["files"]) == (True, 1)
    assert volumes(**elsewhere) == (False, 0)


def test_the_bucket_and_its_keys_are_variables_that_the_role_understands() -> None:
    told = environment(the(render(**VARIANTS["two apis"]), "Deployment", "dawg-api"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert told.pop(name) == {"secretKeyRef": {"name": "keys", "key": name}}
        told[name] = "from the Secret"
    understood = S3Settings.from_environment(told)

    assert understood is not None
    assert (understood.bucket, understood.prefix, understood.endpoint) == ("dawg", "files", "https://s3.example.com")
    assert understood.path_style
    assert understood.ca_bundle == AUTHORITY.strip()


@pytest.mark.parametrize("part", ["builtin", "workflows", "schedules", "webhooks"])
def test_a_release_that_reuses_values_from_before_there_was_a_part_is_rendered_without_it(part: str) -> None:
    assert of_kind(render(**{part: None}), "Deployment") == of_kind(render(), "Deployment")
    assert "169.254.169.254/32" in json.dumps(the(render(networkPolicy={"steps": None}), "NetworkPolicy", "dawg-steps"))


def test_a_release_that_reuses_values_from_before_there_were_buckets_is_rendered() -> None:
    assert "DAWG_FILES_URL" not in environment(the(render(api={"files": None}), "Deployment", "dawg-api"))


def test_both_roles_are_told_where_the_other_is() -> None:
    manifests = render(
        "quality", namespaces=["team-a", "team-b"], image={"agent": {"repository": "r/agent", "tag": "7"}}
    )
    controller = environment(the(manifests, "Deployment", "dawg-controller"))
    api = environment(the(manifests, "Deployment", "dawg-api"))

    assert controller["DAWG_NAMESPACES"] == api["DAWG_NAMESPACES"] == "team-a,team-b"
    assert controller["DAWG_CONTROLLER_ADDRESS"] == "dawg-controller.quality.svc:8443"
    assert controller["DAWG_API_URL"] == "https://dawg-api.quality.svc:8444"
    assert controller["DAWG_AGENT_IMAGE"] == "r/agent:7"
    assert api["DAWG_CONTROLLER_SERVICE_ACCOUNT"] == "quality:dawg-controller"


def test_the_certificate_is_valid_for_the_names_that_are_dialled(tmp_path: Path) -> None:
    manifests = render("quality", namespaces=["team-a"])
    secret = the(manifests, "Secret", "dawg-tls")["data"]
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(secret["ca.crt"]))
    (tmp_path / "tls.crt").write_bytes(base64.b64decode(secret["tls.crt"]))
    for host in ("dawg-controller.quality.svc", "dawg-api.quality.svc"):
        files = [str(tmp_path / "ca.crt"), "-verify_hostname", host, str(tmp_path / "tls.crt")]
        command = ["openssl", "verify", "-CAfile", *files]
        subprocess.run(command, check=True, capture_output=True)
    authority = the(manifests, "ConfigMap", "dawg-ca", "team-a")["data"]["ca.crt"]
    assert authority == (tmp_path / "ca.crt").read_text()


def test_an_own_certificate_brings_its_own_authority() -> None:
    manifests = render(namespaces=["team-a"], tls=OWN_CERTIFICATE)
    assert of_kind(manifests, "Secret") == []
    for namespace in ("dawg", "team-a"):
        assert the(manifests, "ConfigMap", "dawg-ca", namespace)["data"]["ca.crt"] == AUTHORITY


def test_cert_manager_makes_the_certificate() -> None:
    tls = {
        "mode": "certManager",
        "certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}},
        "caBundle": AUTHORITY,
    }
    certificate = the(render(tls=tls), "Certificate", "dawg")["spec"]
    assert certificate["secretName"] == "dawg-tls"
    assert "dawg-api.dawg.svc" in certificate["dnsNames"]


def test_metrics_of_both_roles_are_scraped_where_wanted() -> None:
    assert of_kind(render(), "ServiceMonitor") == []
    manifests = render(metrics={"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}})
    monitor = the(manifests, "ServiceMonitor", "dawg")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = [service for service in of_kind(manifests, "Service") if wanted <= service["metadata"]["labels"].items()]
    assert {service["metadata"]["name"] for service in scraped} == {"dawg-controller", "dawg-api"}
    assert all("metrics" in {port["name"] for port in service["spec"]["ports"]} for service in scraped)


def test_the_folder_of_definitions_is_a_link() -> None:
    assert str((CHART / "files" / "crds").readlink()) == "../../../crds"
