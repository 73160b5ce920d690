"""Overrides of finished runs are found on a real apiserver, be they said before the watch or under it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.cluster.credentials import find_credentials
from dawg_orchestrator.controller.overrides import Overrides, watch_blocked
from dawg_orchestrator.resources.names import OVERRIDE
from realcluster import RealCluster, apply_definitions, namespace_on_cluster

RUN = {
    "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"generateName": "ended-"},
    "spec": {"workflowRef": {"name": "checks"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with namespace_on_cluster("unseen-overrides") as cluster:
        apply_definitions(cluster)
        yield cluster


@pytest.fixture
async def apiserver() -> AsyncIterator[Cluster]:
    async with Cluster(find_credentials(), user_agent="dawg-tests") as apiserver:
        yield apiserver


def a_run(cluster: RealCluster, **status: object) -> str:
    name = str(cluster.create(RUN)["metadata"]["name"])
    if status:
        cluster.done("patch", "testruns.dawg.dev", name, "--subresource=status", "--type=merge", "-p", _json(status))
    return name


def _json(status: object) -> str:
    return json.dumps({"status": status})


def override(cluster: RealCluster, name: str) -> None:
    # An installed release lets nobody speak in another name.
    me = cluster.done("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    cluster.done("annotate", "testruns.dawg.dev", name, f"{OVERRIDE}=Allowed by {me}: the site is down")


async def until(holds: Callable[[], bool], news: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await news.wait()
            news.clear()


async def test_of_all_runs_the_finished_ones_that_block_and_are_overridden_are_found(
    cluster: RealCluster, apiserver: Cluster
) -> None:
    before, later = (a_run(cluster, verdict="Failed", mergeBlocked=True) for _ in range(2))
    passed, goes_on = a_run(cluster, verdict="Passed", mergeBlocked=False), a_run(cluster)
    for name in (before, passed, goes_on):
        override(cluster, name)
    news = asyncio.Event()
    overrides = Overrides(lambda _namespace: news.set())
    found = lambda: set(overrides.due(cluster.namespace).values())  # noqa: E731
    watching = asyncio.create_task(watch_blocked(apiserver, [cluster.namespace], overrides))
    try:
        await until(lambda: found() == {before}, news)
        override(cluster, later)
        await until(lambda: found() == {before, later}, news)
        cluster.done("patch", "testruns.dawg.dev", goes_on, "--subresource=status", "--type=merge",
                     "-p", _json({"verdict": "Failed"}))  # fmt: skip
        await until(lambda: found() == {before, later, goes_on}, news)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
