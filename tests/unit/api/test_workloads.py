from __future__ import annotations

import time

import pytest

from apiserver_double import ApiserverDouble, a_task, owner
from dawg_orchestrator.api.answers import Refusal
from dawg_orchestrator.api.auth import Reviews
from dawg_orchestrator.api.contents import Contents
from dawg_orchestrator.api.workloads import Attempt, Workloads
from dawg_orchestrator.cluster.client import AGENTPOOLS, DEPLOYMENTS, JOBS, PODS
from dawg_orchestrator.resources import names

FIRST = Attempt("run-uid", 0, 1)


@pytest.fixture
def apiserver() -> ApiserverDouble:
    return ApiserverDouble()


@pytest.fixture
def workloads(apiserver: ApiserverDouble) -> Workloads:
    reviews = Reviews(apiserver, time.monotonic)  # type: ignore[arg-type]
    contents = Contents(apiserver, time.monotonic)  # type: ignore[arg-type]
    controller = ("dawg", "dawg-controller")
    return Workloads(apiserver, reviews, contents, ["team"], controller, time.monotonic)  # type: ignore[arg-type]


async def refused(asking: object) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await asking  # type: ignore[misc]
    return refusal.value


async def test_a_sidecar_uploads_for_its_own_attempt(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    token = apiserver.task_pod("run", 0)["Authorization"]

    task = await workloads.collector(token, FIRST, None)

    assert (task.namespace, task.run, task.attempt, task.pool) == ("team", "run", FIRST, "default")


@pytest.mark.parametrize(
    "other", [Attempt("run-uid", 1, 1), Attempt("run-uid", 0, 2), Attempt("other-uid", 0, 1)],
    ids=["another task", "another attempt", "another run"],
)  # fmt: skip
async def test_a_sidecar_uploads_for_nobody_else(
    other: Attempt, workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = apiserver.task_pod("run", 0)["Authorization"]

    assert (await refused(workloads.collector(token, other, None))).status == 403


async def test_a_pod_that_was_replaced_under_its_name_is_refused(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = apiserver.task_pod("run", 0)["Authorization"]
    apiserver.objects["pods", "team", "run-0-1-pod"]["metadata"]["uid"] = "another"

    assert (await refused(workloads.collector(token, FIRST, None))).status == 403


async def test_labels_alone_make_no_sidecar(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    apiserver.task_pod("run", 0)
    labels = {names.RUN: "run-uid", names.INDEX: "0", names.ATTEMPT: "1"}
    apiserver.put(PODS, "impostor", metadata={"labels": labels})
    token = apiserver.bound_token(names.TASK_SERVICE_ACCOUNT, "impostor")["Authorization"]

    assert (await refused(workloads.collector(token, FIRST, None))).status == 403


async def test_a_job_of_a_deleted_run_of_the_same_name_is_refused(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = apiserver.task_pod("run", 0)["Authorization"]
    reference = owner(names.API_VERSION, "TestRun", "run") | {"uid": "of-the-former-run"}
    apiserver.objects["jobs", "team", "run-0-1"]["metadata"]["ownerReferences"] = [reference]

    assert (await refused(workloads.collector(token, FIRST, None))).status == 403


async def test_an_agents_token_is_no_sidecars(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    apiserver.task_pod("run", 0)
    token = apiserver.agent_pod("agent")["Authorization"]

    assert (await refused(workloads.collector(token, FIRST, None))).status == 403


async def test_an_agent_writes_the_logs_of_its_pool(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    apiserver.task_pod("run", 0, pool="gpu")
    token = apiserver.agent_pod("agent", "gpu")["Authorization"]

    assert (await workloads.log_carrier(token, ("team", "run", "run-0-1"), FIRST)).run == "run"


async def test_an_agent_of_another_pool_is_refused(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    apiserver.task_pod("run", 0, pool="gpu")
    token = apiserver.agent_pod("agent", "default")["Authorization"]

    assert (await refused(workloads.log_carrier(token, ("team", "run", "run-0-1"), FIRST))).status == 403


async def test_an_agent_whose_deployment_no_pool_owns_is_refused(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    apiserver.task_pod("run", 0)
    token = apiserver.agent_pod("agent")["Authorization"]
    apiserver.objects[DEPLOYMENTS.plural, "team", "default-agents"]["metadata"]["ownerReferences"] = []

    assert (await refused(workloads.log_carrier(token, ("team", "run", "run-0-1"), FIRST))).status == 403


async def test_the_end_of_a_log_arrives_though_its_job_is_gone(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    apiserver.task_pod("run", 0)
    token = apiserver.agent_pod("agent")["Authorization"]
    await workloads.log_carrier(token, ("team", "run", "run-0-1"), FIRST)
    del apiserver.objects[JOBS.plural, "team", "run-0-1"]

    assert (await workloads.log_carrier(token, ("team", "run", "run-0-1"), FIRST)).attempt == FIRST


async def test_only_the_controller_is_the_controller(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    await workloads.controller(apiserver.controller()["Authorization"])

    assert (await refused(workloads.controller(apiserver.task_pod("run", 0)["Authorization"]))).status == 403


# Agents that run tasks in their own pods


def warm_agent(apiserver: ApiserverDouble, pool: str = "warm", executor: str = "Process") -> str:
    token = apiserver.agent_pod(f"{pool}-agent", pool)["Authorization"]
    apiserver.objects[AGENTPOOLS.plural, "team", pool]["spec"]["executor"] = executor
    return token


async def test_a_warm_agent_brings_what_its_pools_tasks_left(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    token = warm_agent(apiserver)
    apiserver.testrun("run", pool="warm")

    assert (await workloads.collector(token, FIRST, "run")).pool == "warm"
    assert (await workloads.log_carrier(token, ("team", "run", None), FIRST)).attempt == FIRST
    assert await workloads.collector_of_run(token, "run-uid", "run") == ("team", "run")


async def test_the_tasks_of_a_workflows_run_are_those_that_were_frozen_for_it(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = warm_agent(apiserver)
    apiserver.workflow_run("run", a_task("unit"), a_task("warm", pool="warm"))

    assert (await workloads.collector(token, Attempt("run-uid", 1, 1), "run")).pool == "warm"
    assert (await refused(workloads.collector(token, FIRST, "run"))).status == 403


async def test_while_nobody_has_frozen_a_workflows_run_its_agents_are_asked_to_come_again(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = warm_agent(apiserver)
    run = apiserver.workflow_run("run", pool="warm")
    run["status"] = {}

    assert (await refused(workloads.collector(token, FIRST, "run"))).status == 503

    run["status"] = {"workflowRevision": "run-revision"}
    assert (await workloads.collector(token, FIRST, "run")).pool == "warm"


async def test_an_agent_that_only_watches_jobs_brings_no_results(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = warm_agent(apiserver, "default", "Job")
    apiserver.testrun("run")

    assert (await refused(workloads.collector(token, FIRST, "run"))).status == 403


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        pytest.param("run", Attempt("run-uid", 1, 1), id="a task that does not exist"),
        pytest.param("run", Attempt("other-uid", 0, 1), id="another run of that name"),
        pytest.param("none", FIRST, id="no run"),
        pytest.param("cold", Attempt("cold-uid", 0, 1), id="a task of another pool"),
    ],
)
async def test_a_warm_agent_brings_nothing_for_others(
    run: str, wanted: Attempt, workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = warm_agent(apiserver)
    apiserver.testrun("run", pool="warm")
    apiserver.testrun("cold")

    assert (await refused(workloads.collector(token, wanted, run))).status == 403


async def test_an_agent_of_built_in_steps_brings_their_logs(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    token = apiserver.step_agent(pool="builtin")["Authorization"]
    apiserver.testrun("run", pool="builtin")

    assert (await workloads.log_carrier(token, ("team", "run", None), FIRST)).pool == "builtin"


async def test_steps_that_name_no_pool_are_those_of_the_pool_of_steps(
    workloads: Workloads, apiserver: ApiserverDouble
) -> None:
    token = apiserver.step_agent(pool="builtin")["Authorization"]
    shown = {"name": "shown", "uses": "update-dashboard", "with": {"title": "a word"}}
    apiserver.workflow_run("run", a_task("unit"), shown, pool="default")

    await workloads.step_of(token, "run", "run-uid", 1)
    assert (await refused(workloads.step_of(token, "run", "run-uid", 0))).status == 403


async def test_a_sidecar_cannot_pass_for_a_warm_agent(workloads: Workloads, apiserver: ApiserverDouble) -> None:
    token = apiserver.task_pod("run", 0)["Authorization"]
    apiserver.testrun("run")

    assert (await refused(workloads.collector(token, FIRST, "run"))).status == 403
