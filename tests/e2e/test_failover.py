"""Two controllers: one leads, and what it leaves the other takes over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster_at_hand import Kubectl, eventually
from doors import CONTROLLER_PODS
from stories import Story, task

DEPLOYMENT = "deployment/dawg-controller"
NO_RETRY = {"infra": {"limit": 0}}
RUNS, TASKS = 6, 8


@pytest.fixture(scope="module")
def _two(kubectl: Kubectl) -> Iterator[None]:
    replicas = kubectl("get", DEPLOYMENT, "-o", "jsonpath={.spec.replicas}")
    kubectl("scale", DEPLOYMENT, "--replicas=2")
    kubectl("rollout", "status", DEPLOYMENT, "--timeout=120s")
    yield
    kubectl("scale", DEPLOYMENT, f"--replicas={replicas}")
    kubectl("rollout", "status", DEPLOYMENT, "--timeout=120s")


@pytest.fixture(scope="module")
def warm_pool(_two: None, shared: Story) -> str:
    pool = shared.given_pool(executor="Process", minAgents=2, maxAgents=2, slots=2)
    shared.then_pool_has(pool, agents=2)
    return pool


def leader(kubectl: Kubectl) -> tuple[str, int]:
    """The leading pod and its term, once a pod that stands leads."""

    def look() -> tuple[str, int] | None:
        spec = (kubectl.get("lease", "dawg-leader") or {}).get("spec") or {}
        standing = {
            pod["metadata"]["name"]
            for pod in kubectl.items("pods", CONTROLLER_PODS)
            if "deletionTimestamp" not in pod["metadata"]
        }
        found = (str(spec.get("holderIdentity")), int(spec.get("leaseTransitions") or 0))
        return found if found[0] in standing else None

    return eventually(look, within=60)


def test_when_the_leader_is_killed_the_other_goes_on(story: Story, kubectl: Kubectl, warm_pool: str) -> None:
    going = story.when_applied(task(run="echo begun; sleep 12; echo ended", retry=NO_RETRY), pool=warm_pool)
    story.then_task_waits(going, "unit", "Running")
    killed, term = leader(kubectl)

    kubectl("delete", "pod", killed, "--grace-period=0", "--force", "--wait=false")
    new = story.when_applied(task(retry=NO_RETRY), pool=warm_pool)

    assert story.then_finishes(new)["verdict"] == "Passed"
    successor, next_term = leader(kubectl)
    assert successor != killed
    assert next_term > term
    status = story.then_finishes(going)
    (entry,) = status["tasks"]
    assert (status["verdict"], entry["attempt"]) == ("Passed", 1)
    assert status["term"] == next_term


def test_a_rolling_upgrade_under_load_costs_no_test_a_second_attempt(
    story: Story, kubectl: Kubectl, warm_pool: str
) -> None:
    before, _ = leader(kubectl)
    tasks = [task(f"task-{n}", run="sleep 1", retry=NO_RETRY) for n in range(TASKS)]
    runs = [story.when_applied(*tasks, pool=warm_pool) for _ in range(RUNS)]

    kubectl("rollout", "restart", DEPLOYMENT)
    kubectl("rollout", "status", DEPLOYMENT, "--timeout=120s")

    statuses = [story.then_finishes(run) for run in runs]
    assert [status["verdict"] for status in statuses] == ["Passed"] * RUNS
    attempts = {entry["attempt"] for status in statuses for entry in status["tasks"]}
    assert attempts == {1}
    assert leader(kubectl)[0] != before
