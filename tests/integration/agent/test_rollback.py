"""rollback of real Deployments on a real cluster."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dawg_agent.kube import Kube
from dawg_orchestrator.cluster.client import DEPLOYMENTS, Cluster, Resource
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.resources.names import ROLLED_BACK_BY, ROLLED_BACK_TO
from integration.agent.stepbench import StepBench, a_bench

NAMESPACES = Resource("", "v1", "namespaces")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
PATIENCE = 60.0
REVISION = "deployment.kubernetes.io/revision"


@pytest.fixture
async def bench(cluster: Cluster, tmp_path: Path) -> AsyncIterator[StepBench]:
    name = f"dawg-rollback-{uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    credentials = find_credentials()
    kube = Kube(credentials.server, name, credentials.ssl_context, lambda: credentials.token)
    async with a_bench(tmp_path, kube, name) as made:
        yield made
    await cluster.delete(NAMESPACES, None, name)


def a_template(image: str, version: str, *, healthy: bool) -> dict[str, Any]:
    container = {
        "name": "web", "image": image, "command": ["sleep", "3600"], "env": [{"name": "VERSION", "value": version}],
        "readinessProbe": {"exec": {"command": ["true" if healthy else "false"]}, "periodSeconds": 1},
    }  # fmt: skip
    labels = {"app": "web", **({} if healthy else {"only-of": "the-bad-one"})}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}


async def deploy(cluster: Cluster, namespace: str, image: str, *, replicas: int = 2) -> None:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": a_template(image, "good", healthy=True)}  # fmt: skip
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    await cluster.create(DEPLOYMENTS, namespace, manifest)
    await until_revision(cluster, namespace, "1", available=replicas)


async def deploy_bad(cluster: Cluster, namespace: str, image: str, revision: str) -> None:
    change = {"spec": {"template": a_template(image, f"bad-{revision}", healthy=False)}}
    await cluster.patch(DEPLOYMENTS, namespace, "web", change)
    await until_revision(cluster, namespace, revision)


async def until_revision(cluster: Cluster, namespace: str, revision: str, *, available: int = 0) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await cluster.get(DEPLOYMENTS, namespace, "web")
            status = found.get("status") or {}
            seen = (found["metadata"].get("annotations") or {}).get(REVISION)
            if seen == revision and (status.get("availableReplicas") or 0) >= available:
                return
            await asyncio.sleep(0.1)


def version_of(deployment: dict[str, Any]) -> str:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return str(container["env"][0]["value"])


async def test_a_deployment_goes_back_once_and_is_rolled_out(
    bench: StepBench, cluster: Cluster, test_image: str
) -> None:
    await deploy(cluster, bench.namespace, test_image)
    await deploy_bad(cluster, bench.namespace, test_image, "2")

    result = await bench.carry_out("rollback", deployment="web", timeout="1m")
    again = await bench.carry_out("rollback", deployment="web", timeout="1m")
    another = await bench.carry_out("rollback", run="run-2", deployment="web", timeout="1m")

    assert result.exit_code == 0, result.message
    assert result.summary is not None
    assert result.summary.outputs == {"revision": "3"}
    assert "is back at what was revision 1" in result.message
    deployment = await cluster.get(DEPLOYMENTS, bench.namespace, "web")
    assert version_of(deployment) == "good"
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": "web"}
    assert deployment["status"]["availableReplicas"] == deployment["status"]["replicas"] == 2
    annotations = deployment["metadata"]["annotations"]
    assert annotations[ROLLED_BACK_BY] == "run-1-name"
    assert annotations[ROLLED_BACK_TO] in result.message
    assert (again.exit_code, another.exit_code) == (0, 1)
    assert "had been brought back by this run before" in again.message
    assert "was brought back by run run-1-name already" in another.message

    await deploy_bad(cluster, bench.namespace, test_image, "4")
    later = await bench.carry_out("rollback", run="run-3", deployment="web", timeout="1m")
    assert later.exit_code == 0, later.message
    assert version_of(await cluster.get(DEPLOYMENTS, bench.namespace, "web")) == "good"


async def test_what_was_deployed_since_is_left_as_it_is(bench: StepBench, cluster: Cluster, test_image: str) -> None:
    await deploy(cluster, bench.namespace, test_image, replicas=1)
    await deploy_bad(cluster, bench.namespace, test_image, "2")

    late = await bench.carry_out("rollback", deployment="web", fromRevision="1")
    assert (late.exit_code, late.message) == (
        0, "Deployment web is at revision 2 by now, not at 1: it is left as it is",
    )  # fmt: skip
    assert version_of(await cluster.get(DEPLOYMENTS, bench.namespace, "web")) == "bad-2"
    in_time = await bench.carry_out("rollback", run="run-1", deployment="web", fromRevision="2", timeout="1m")
    again = await bench.carry_out("rollback", run="run-1", deployment="web", fromRevision="2", timeout="1m")
    assert in_time.message.startswith("Deployment web is back at what was revision 1 ")
    assert again.message.startswith("Deployment web had been brought back by this run before")


async def test_what_has_no_way_back_is_told(bench: StepBench, cluster: Cluster, test_image: str) -> None:
    missing = await bench.carry_out("rollback", deployment="web")
    await deploy(cluster, bench.namespace, test_image, replicas=0)
    only = await bench.carry_out("rollback", deployment="web")

    assert (missing.exit_code, only.exit_code) == (1, 1)
    assert missing.message == f"namespace {bench.namespace} has no Deployment web"
    assert "Deployment web has no earlier revision" in only.message


async def test_a_rollout_that_does_not_end_is_told_with_what_it_lacks(
    bench: StepBench, cluster: Cluster, test_image: str
) -> None:
    await deploy(cluster, bench.namespace, test_image, replicas=1)
    await deploy_bad(cluster, bench.namespace, test_image, "2")
    await deploy_bad(cluster, bench.namespace, test_image, "3")

    result = await bench.carry_out("rollback", deployment="web", timeout="5s")

    assert result.exit_code == 1
    assert "within 5s" in result.message


async def test_a_missing_right_is_told_with_the_chart_s_value(
    bench: StepBench, cluster: Cluster, tmp_path: Path
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    await cluster.create(SERVICE_ACCOUNTS, bench.namespace, account)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    made = await cluster.create_subresource(SERVICE_ACCOUNTS, bench.namespace, "nobody", "token", asked)
    kube = Kube(find_credentials().server, bench.namespace, trust_only(), lambda: str(made["status"]["token"]))
    async with a_bench(tmp_path, kube, bench.namespace) as powerless:
        result = await powerless.carry_out("rollback", deployment="web")

    assert result.exit_code == 1
    assert "cannot get resource" in result.message
    assert "builtin.rollback.enabled" in result.message


def trust_only() -> ssl.SSLContext:
    """What the cluster is known by, without the certificate of who asks."""
    authorities = find_credentials().ssl_context.get_ca_certs(binary_form=True)
    return ssl.create_default_context(cadata=b"".join(authorities))
