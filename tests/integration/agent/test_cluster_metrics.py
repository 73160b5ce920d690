"""collect-metrics of pods, from a real metrics-server that asks the cluster's kubelets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

import realparts
from dawg_agent.kube import Kube
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.errors import ClusterError
from integration.agent.stepbench import StepBench, a_bench
from realcluster import RealCluster, namespace_on_cluster

HELD = 64 * 2**20  # bytes
SHARE = 0.2  # of a core
# What the chart lets agents with steps do there: tests/integration/test_chart_rights.py
READER = {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["get", "list"]}
MEASURED_WITHIN = 120.0  # seconds; two looks at a pod, a resolution apart
POD = [{"name": "web", "matchLabels": {"app": "web"}}]


@pytest.fixture(scope="module")
def cluster(test_image: str) -> Iterator[RealCluster]:
    """A namespace with a pod that holds its bytes and takes its share, an account that may read that and one not."""
    with namespace_on_cluster("dawg-metrics") as cluster:
        program = f"held = bytearray(b'x') * {HELD}\nwhile True: pass"
        resources = {"limits": {"cpu": str(SHARE), "memory": "256Mi"}}
        container = {"name": "web", "image": test_image, "command": ["python3", "-c", program], "resources": resources}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
        for name in ("steps", "nobody"):
            cluster.done("create", "serviceaccount", name)
        metadata = {"name": "steps"}
        cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
                        "spec": spec})  # fmt: skip
        group = "rbac.authorization.k8s.io"
        cluster.create({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [READER]})
        cluster.done("create", "rolebinding", "steps", "--role=steps",
                     f"--serviceaccount={cluster.namespace}:steps")  # fmt: skip
        yield cluster


@pytest.fixture(scope="module")
def metrics_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics-server")


@pytest.fixture(scope="module")
def metrics_url(cluster: RealCluster, metrics_folder: Path) -> Iterator[str]:
    del cluster
    with realparts.metrics_server(metrics_folder) as url:
        yield url


@asynccontextmanager
async def a_bench_of(
    account: str, cluster: RealCluster, folder: Path, url: str, trust: Path
) -> AsyncIterator[StepBench]:
    token = cluster.done("create", "token", account).strip()
    context = ssl.create_default_context(cafile=trust / "tls.crt")
    kube = Kube(url, cluster.namespace, context, lambda: token)
    async with a_bench(folder, kube, cluster.namespace) as bench:
        yield bench


async def test_pods_are_measured_by_the_metrics_api(
    cluster: RealCluster, metrics_url: str, metrics_folder: Path, tmp_path: Path
) -> None:
    async with (
        a_bench_of("steps", cluster, tmp_path, metrics_url, metrics_folder) as bench,
        asyncio.timeout(MEASURED_WITHIN),
    ):
        while True:
            result = await bench.carry_out("collect-metrics", pods=POD)
            assert result.summary is not None
            measured = json.loads(result.summary.outputs["metrics"])
            if measured.get("web.cpu", 0) > SHARE / 2:
                break
            await asyncio.sleep(1)

    assert set(measured) == {"web.cpu", "web.memory"}
    assert measured["web.cpu"] < 2 * SHARE
    assert HELD <= measured["web.memory"] < 4 * HELD


async def test_an_account_that_may_not_read_metrics_is_told(
    cluster: RealCluster, metrics_url: str, metrics_folder: Path, tmp_path: Path
) -> None:
    async with a_bench_of("nobody", cluster, tmp_path, metrics_url, metrics_folder) as bench:
        result = await bench.carry_out("collect-metrics", pods=POD)

    assert result.exit_code == 1
    assert "the metrics API for web: the agents' account may not list pods" in result.message


async def test_a_cluster_without_a_metrics_api_is_told(cluster: RealCluster, tmp_path: Path) -> None:
    credentials = find_credentials()
    kube = Kube(credentials.server, cluster.namespace, credentials.ssl_context, lambda: credentials.token)
    with suppress(ClusterError):
        served = await kube.read("/apis/metrics.k8s.io/v1beta1")
        pytest.skip(f"this cluster has one: {served['groupVersion']}")
    async with a_bench(tmp_path, kube, cluster.namespace) as bench:
        result = await bench.carry_out("collect-metrics", pods=POD)

    assert result.exit_code == 1
    assert "the metrics API for web: the cluster has none (install metrics-server)" in result.message
