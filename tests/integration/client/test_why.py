"""`dawg why` and `dawg status` read what they need from a real cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dawg_orchestrator.client.connection import resource_path
from dawg_orchestrator.errors import NotFound

from .conftest import Playground

CONTROLLER = {"app.kubernetes.io/name": "dawg", "app.kubernetes.io/component": "controller"}


@pytest.fixture
def controller(playground: Playground) -> Iterator[None]:
    """A controller's Deployment that watches other namespaces."""
    labels = {**CONTROLLER, "app.kubernetes.io/instance": "shop-tests"}
    pod = {
        "containers": [{"name": "controller", "image": "none", "env": [{"name": "DAWG_NAMESPACES", "value": "a,b"}]}]
    }
    body = {
        "metadata": {"name": "dawg-controller", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": pod}},
    }  # fmt: skip
    playground.create("deployments", body, api="apis/apps/v1")
    yield
    playground.delete(resource_path("deployments", playground.namespace, "dawg-controller", api="apis/apps/v1"))


def reasons(playground: Playground, name: str) -> dict[str, str]:
    result = playground.dawg("why", name, "-o", "json")
    assert result.exit_code == 0, result.output
    return {one["reason"]: f"{one['message']} → {one['remedy']}" for one in json.loads(result.stdout)}


def test_why_names_the_namespaces_that_the_release_watches(playground: Playground, controller: None) -> None:
    run = playground.create_run()

    answer = reasons(playground, run.name)["NotSeen"]

    assert "watches a, b" in answer
    assert f"helm upgrade shop-tests charts/dawg --namespace {playground.namespace}" in answer
    assert f"namespaces={{a,b,{playground.namespace}}}" in answer


def test_why_names_the_pools_that_exist_and_the_clusters_warnings(playground: Playground) -> None:
    playground.create("agentpools", {
        "apiVersion": "dawg.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": "spare"}, "spec": {},
    }, api="apis/dawg.dev/v1alpha1")  # fmt: skip
    run = playground.create_run()
    playground.write_status(run.name, queue={"reason": "PoolNotFound", "message": "no pool default", "position": 1})
    involved = {"kind": "TestRun", "name": run.name, "namespace": playground.namespace, "uid": run.uid}
    playground.create("events", {
        "metadata": {"generateName": "warning-"}, "involvedObject": involved, "type": "Warning",
        "reason": "FailedScheduling", "message": "0/1 nodes are available",
    })  # fmt: skip

    found = reasons(playground, run.name)

    assert "create it, or a run with another pool: spare" in playground.dawg("why", run.name).stdout
    assert "0/1 nodes are available" in found["FailedScheduling"]


def test_status_shows_pools_and_runs_newest_first(playground: Playground) -> None:
    older, newer = playground.create_run(name="older-1"), playground.create_run(name="zz-newer")
    playground.write_status(older.name, verdict="Passed")

    answer = json.loads(playground.dawg("status", "-o", "json").stdout)
    text = playground.dawg("status").stdout

    names = [run["metadata"]["name"] for run in answer["runs"]]
    assert {older.name, newer.name} <= set(names)
    assert older.name in text


def test_an_unknown_namespace_is_said_to_be_one(playground: Playground) -> None:
    with pytest.raises(NotFound):
        playground.cluster.get("/api/v1/namespaces/nowhere-at-all")

    result = playground.dawg("run", "-n", "nowhere-at-all", "--image", "a", "--", "true")

    assert result.exit_code == 64
    assert "nowhere-at-all" in result.output
    assert "--namespace" in result.output
