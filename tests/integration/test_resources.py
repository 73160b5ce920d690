"""The definitions before a real apiserver: what it takes, what it refuses and why, what it stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from builders import a_graph, a_step, ended
from dawg_orchestrator.planning.risk import find_risk
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.schedule import ScheduleSpec
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import WorkflowSpec
from realcluster import ROOT, Manifest, RealCluster, apply_definitions, namespace_on_cluster

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"), key=lambda path: path.name)
SPECS: dict[str, type[BaseModel]] = {
    "TestRun": TestRunSpec, "Workflow": WorkflowSpec, "Schedule": ScheduleSpec, "AgentPool": AgentPoolSpec,
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with namespace_on_cluster("dawg-resources") as cluster:
        apply_definitions(cluster)
        yield cluster


def an_object(kind: str, spec: dict[str, Any], name: str = "") -> Manifest:
    metadata = {"name": name} if name else {"generateName": "some-"}
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def a_run(*tasks: dict[str, Any], name: str = "", **spec: Any) -> Manifest:
    """A TestRun; a task states only what differs from a script."""
    complete = [{"name": f"task-{number}", **task} for number, task in enumerate(tasks or ({"run": "true"},))]
    return an_object("TestRun", {"tasks": complete, **spec}, name)


def a_task(**differs: Any) -> Manifest:
    return a_run({"run": "true", **differs})


def a_workflow(**spec: Any) -> Manifest:
    return an_object("Workflow", {"tasks": [{"name": "unit", "run": "true"}], **spec})


def a_schedule(**spec: Any) -> Manifest:
    template = {"spec": {"tasks": [{"name": "unit", "run": "true"}]}}
    return an_object("Schedule", {"cron": ["0 2 * * *"], "runTemplate": template, **spec})


def a_pool(**spec: Any) -> Manifest:
    return an_object("AgentPool", spec)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted_and_the_servers_defaults_are_the_models(example: Any, cluster: RealCluster) -> None:
    for manifest in yaml.safe_load_all(example.read_text()):
        stored = cluster.create(manifest, "--dry-run=server", "--validate=strict")
        model = SPECS.get(manifest["kind"])
        if model is not None:
            assert model.model_validate(stored["spec"]) == model.model_validate(manifest["spec"])


def test_every_resource_has_an_example() -> None:
    kinds = {manifest["kind"] for path in EXAMPLES for manifest in yaml.safe_load_all(path.read_text())}
    assert kinds >= SPECS.keys()


def test_the_definitions_have_no_structural_fault(cluster: RealCluster) -> None:
    for plural in ("testruns", "workflows", "schedules", "agentpools"):
        conditions = cluster.get("crd", f"{plural}.dawg.dev")["status"]["conditions"]
        states = {condition["type"]: condition["status"] for condition in conditions}
        assert states["Established"] == "True"
        assert "NonStructuralSchema" not in states


REFUSED: dict[str, tuple[Manifest, str]] = {
    "no tasks and no workflow": (an_object("TestRun", {}), "set exactly one of tasks and workflowRef"),
    "tasks and a workflow": (a_run(workflowRef={"name": "w"}), "set exactly one of tasks and workflowRef"),
    "an empty list of tasks": (an_object("TestRun", {"tasks": []}), "should have at least 1 items"),
    "two tasks of one name": (a_run({"name": "a", "run": "x"}, {"name": "a", "run": "y"}), "Duplicate value"),
    "a task that does nothing": (a_run({}), "exactly one of run (a script), command (a list) and uses"),
    "a script and a command": (a_task(command=["true"]), "exactly one of run (a script), command (a list) and uses"),
    "with without uses": (a_task(**{"with": {"a": 1}}), "with goes with uses"),
    "a task's name": (a_task(name="Unit Tests"), "spec.tasks[0].name"),
    "a task's timeout": (a_task(timeout="ten minutes"), "spec.tasks[0].timeout"),
    "our own variable": (a_task(env=[{"name": "DAWG_X", "value": "1"}]), "names that start with DAWG_"),
    "our own variable in a service": (
        a_task(services=[{"name": "db", "image": "db", "env": [{"name": "DAWG_X"}]}]), "names that start with DAWG_",
    ),
    "a variable's name": (a_task(env=[{"name": "A-B"}]), "spec.tasks[0].env[0].name"),
    "shards without a number": (a_task(shards={}), "set either count or targetDuration"),
    "shards with two": (a_task(shards={"count": 2, "targetDuration": "5m"}), "set either count or targetDuration"),
    "shards with a stray max": (a_task(shards={"count": 2, "max": 3}), "max goes with targetDuration"),
    "shards by duration": (a_task(shards={"targetDuration": "5m"}), "shards.targetDuration needs tests"),
    "a retry of failed tests": (
        a_task(retry={"tests": {"limit": 1, "scope": "failedOnly"}}), "retry.tests.scope: failedOnly needs tests",
    ),
    "too many retries": (a_task(retry={"infra": {"limit": 100}}), "should be less than or equal to 10"),
    "a service without a port": (
        a_task(services=[{"name": "db", "image": "db", "readiness": {}}]), "name exactly one of tcp, http and exec",
    ),
    "an amount of memory": (a_task(resources={"limits": {"memory": "much"}}), "spec.tasks[0].resources.limits.memory"),
    "an amount without bounds": (
        a_task(resources={"limits": {"cpu": "1e99999999"}}), "spec.tasks[0].resources.limits.cpu",
    ),
    "an absolute path": (a_task(results={"junit": ["/etc/passwd"]}), "spec.tasks[0].results.junit[0]"),
    "a long name in a matrix": (a_task(matrix={"m" * 64: ["a"]}), "a name has at most 63 characters"),
    "a long name of a parameter": (a_run(parameters={"p" * 64: "a"}), "a name has at most 63 characters"),
    "a priority": (a_run(priority="urgent"), 'supported values: "critical", "high", "medium", "low"'),
    "a local repository": (a_run(source={"git": {"url": "/etc"}}), "spec.source.git.url"),
    "a revision that is an option": (
        a_run(source={"git": {"url": "https://x/y", "revision": "--upload-pack=x"}}), "spec.source.git.revision",
    ),
    "a confidence": (a_run(selection={"target": {"confidence": 0}}), "should be greater than 0"),
    "a run of nothing": ({"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": "x"}}, "spec"),
    "a trigger of nothing": (a_workflow(triggers=[{}]), "name exactly one of git, pullRequest (and mergeGroup)"),
    "a trigger of two things": (
        a_workflow(triggers=[{"git": {"url": "https://x"}, "deployment": {}}]), "name exactly one of git",
    ),
    "a merge queue alone": (a_workflow(triggers=[{"mergeGroup": True}]), "mergeGroup goes with pullRequest"),
    "a gate on a merge commit": (
        a_workflow(triggers=[{"pullRequest": {"url": "https://x/y/z", "test": "Merge", "gate": {}}}]),
        "gate holds exactly the commit that was tested",
    ),
    "an event of pull requests": (
        a_workflow(triggers=[{"pullRequest": {"url": "https://x/y/z", "events": ["labeled"]}}]),
        'supported values: "opened", "updated"',
    ),
    "a webhook of pull requests without a secret": (
        a_workflow(triggers=[{"pullRequest": {"url": "https://x/y/z", "webhook": True}}]), "needs webhookSecretRef",
    ),
    "a workflow's task": (a_workflow(**{"finally": [{"name": "a"}]}), "a task has exactly one of"),
    "two parameters of one name": (a_workflow(parameters=[{"name": "a"}, {"name": "a"}]), "Duplicate value"),
    "a schedule without a time": (a_schedule(cron=[]), "should have at least 1 items"),
    "a schedule's run": (a_schedule(runTemplate={"spec": {}}), "set exactly one of tasks and workflowRef"),
    "a pool upside down": (a_pool(minAgents=3, maxAgents=2), "minAgents may not be larger than maxAgents"),
    "a pool without room": (a_pool(slots=0), "should be greater than or equal to 1"),
    "a pool that mounts a Secret": (
        a_pool(jobTemplate={"volumes": [{"name": "v", "mountPath": "/v", "secret": {"secretName": "s"}}]}),
        "a volume is exactly one of emptyDir, configMap and ephemeral",
    ),
    "a pool with a model's key beside forgeSecrets": (
        a_pool(executor="Builtin", builtin={"secrets": [{"name": "m", "key": "k", "env": "OPENAI_API_KEY"}],
                                            "forgeSecrets": [{"name": "forge"}]}),
        "never share a pod",
    ),
    "a pool whose Secret says whom agents talk to": (
        a_pool(executor="Builtin", builtin={"secrets": [{"name": "m", "key": "k", "env": "DAWG_CONTROLLER"}]}),
        "names that start with DAWG_ are the product's own",
    ),
    "a pool that mounts the host": (
        a_pool(template={"volumes": [{"name": "v", "mountPath": "/v", "hostPath": {"path": "/"}}]}),
        "a volume is exactly one of emptyDir, configMap and ephemeral",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_the_reason(name: str, cluster: RealCluster) -> None:
    manifest, reason = REFUSED[name]
    # What kubectl itself would refuse as an unknown field must not get past the apiserver either.
    assert reason in cluster.refusal(manifest, "--validate=ignore")


@pytest.mark.parametrize("field", ["serviceAccountName", "hostNetwork", "securityContext", "envFrom"])
def test_a_pools_pods_take_no_field_that_gives_rights(field: str, cluster: RealCluster) -> None:
    pool = a_pool(jobTemplate={field: "x"})
    assert f'unknown field "spec.jobTemplate.{field}"' in cluster.refusal(pool, "--validate=strict")
    assert field not in cluster.create(pool, "--dry-run=server", "--validate=ignore")["spec"]["jobTemplate"]


def test_a_variable_of_a_pools_pods_takes_no_value_from_a_secret(cluster: RealCluster) -> None:
    variable = {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "model", "key": "key"}}}
    pool = a_pool(executor="Builtin", template={"env": [variable]})
    assert 'unknown field "spec.template.env[0].valueFrom"' in cluster.refusal(pool, "--validate=strict")
    stored = cluster.create(pool, "--dry-run=server", "--validate=ignore")["spec"]["template"]["env"]
    assert stored == [{"name": "OPENAI_API_KEY"}]


def test_a_name_may_have_253_characters(cluster: RealCluster) -> None:
    assert cluster.refusal(a_run(name="r" * 253)) == ""


def test_a_run_of_1000_tasks_is_taken_and_one_of_1001_is_not(cluster: RealCluster) -> None:
    task: dict[str, Any] = {"run": "true", "needs": ["task-0"], "env": [{"name": "A", "value": "b"}]}
    tasks = [{"run": "true"}, *([task] * 999)]
    assert cluster.refusal(a_run(*tasks)) == ""
    assert "must have at most 1000 items" in cluster.refusal(a_run(*tasks, task))


def test_amounts_may_be_numbers(cluster: RealCluster) -> None:
    stored = cluster.create(a_task(resources={"limits": {"cpu": 2, "memory": "1Gi"}}), "--dry-run=server")
    amounts = TestRunSpec.model_validate(stored["spec"]).tasks or []
    assert amounts[0].resources is not None
    assert amounts[0].resources.limits == {"cpu": "2", "memory": "1Gi"}


def test_a_run_of_one_task_stays_small(cluster: RealCluster) -> None:
    stored = cluster.create(a_run(), "--dry-run=server")
    assert stored["spec"] == {
        "tasks": [{"name": "task-0", "run": "true"}], "pool": "default", "priority": "medium", "failFast": False,
        "timeout": "1h", "ttlAfterFinished": "1d", "cancelled": False,
    }  # fmt: skip


def test_a_pool_stores_the_limits_that_it_did_not_name(cluster: RealCluster) -> None:
    stored = cluster.create(a_pool(), "--dry-run=server")["spec"]
    assert stored == {
        "minAgents": 1, "maxAgents": 5, "slots": 4, "executor": "Job", "trust": "trusted", "paused": False,
        "maxTaskDuration": "1h", "aging": "10m",
    }  # fmt: skip


@pytest.fixture(scope="module")
def full_run(cluster: RealCluster) -> str:
    """A run in which every field that may not change is set."""
    run = a_run(
        {"run": "true"},
        source={"git": {"url": "https://example.com/a.git", "revision": "main"}},
        parameters={"suite": "smoke"},
        selection={"mode": "observe"},
        concurrency={"group": "g"},
        timeout="30m",
    )
    name: str = cluster.create(run)["metadata"]["name"]
    return name


FROZEN: dict[str, dict[str, Any]] = {
    "pool": {"pool": "other"},
    "source": {"source": {"git": {"revision": "develop"}}},
    "parameters": {"parameters": {"suite": "full"}},
    "tasks": {"tasks": [{"name": "task-0", "run": "false"}]},
    "gate": {"gate": {"repository": "org/repo"}},
    "selection": {"selection": None},
    "concurrency": {"concurrency": {"policy": "Skip"}},
    "failFast": {"failFast": True},
    "timeout": {"timeout": "2h"},
}


@pytest.mark.parametrize("field", FROZEN)
def test_what_a_run_tests_cannot_be_changed(field: str, full_run: str, cluster: RealCluster) -> None:
    refused = cluster.patch("testruns.dawg.dev", full_run, {"spec": FROZEN[field]})
    assert f"{field} is immutable: a run tests one thing; create another run instead" in refused


@pytest.mark.parametrize("field", ["source", "parameters", "concurrency"])
def test_nothing_is_taken_away_from_what_a_run_tests(field: str, full_run: str, cluster: RealCluster) -> None:
    assert f"{field} is immutable" in cluster.patch("testruns.dawg.dev", full_run, {"spec": {field: None}})


def test_another_value_of_an_optional_field_is_refused(full_run: str, cluster: RealCluster) -> None:
    refused = cluster.patch("testruns.dawg.dev", full_run, {"spec": {"selection": {"mode": "off"}}})
    assert "selection is immutable" in refused


def test_a_workflow_cannot_take_the_place_of_tasks(full_run: str, cluster: RealCluster) -> None:
    change = {"spec": {"tasks": None, "workflowRef": {"name": "w"}}}
    assert "tasks is immutable" in cluster.patch("testruns.dawg.dev", full_run, change)


def test_priority_and_ttl_may_change(full_run: str, cluster: RealCluster) -> None:
    change = {"spec": {"priority": "critical", "ttlAfterFinished": "2h"}}
    assert cluster.patch("testruns.dawg.dev", full_run, change) == ""


def test_a_cancelled_run_stays_cancelled(cluster: RealCluster) -> None:
    name = cluster.create(a_run())["metadata"]["name"]
    assert cluster.patch("testruns.dawg.dev", name, {"spec": {"cancelled": True}}) == ""
    assert "a cancelled run stays cancelled" in cluster.patch("testruns.dawg.dev", name, {"spec": {"cancelled": False}})
    assert "a cancelled run stays cancelled" in cluster.patch("testruns.dawg.dev", name, {"spec": {"cancelled": None}})


def test_a_pools_executor_cannot_change(cluster: RealCluster) -> None:
    name = cluster.create(a_pool(maxAgents=2))["metadata"]["name"]
    assert "executor is immutable" in cluster.patch("agentpools.dawg.dev", name, {"spec": {"executor": "Process"}})
    assert cluster.patch("agentpools.dawg.dev", name, {"spec": {"maxAgents": 3}}) == ""


def test_a_schedules_template_may_change(cluster: RealCluster) -> None:
    name = cluster.create(a_schedule())["metadata"]["name"]
    change = {"spec": {"runTemplate": {"spec": {"timeout": "2h", "pool": "other"}}}}
    assert cluster.patch("schedules.dawg.dev", name, change) == ""


@pytest.fixture
def run(cluster: RealCluster) -> str:
    """A run that nobody has seen."""
    name: str = cluster.create(a_run())["metadata"]["name"]
    return name


def write_status(cluster: RealCluster, run: str, status: dict[str, Any] | None) -> str:
    return cluster.patch("testruns.dawg.dev", run, {"status": status}, "--subresource=status")


def test_nobody_opens_a_gate_by_creating_a_run_with_a_status(cluster: RealCluster) -> None:
    forged = a_run() | {"status": {"verdict": "Passed", "mergeBlocked": False}}
    name = cluster.create(forged)["metadata"]["name"]
    status = cluster.get("testruns.dawg.dev", name)["status"]

    assert "verdict" not in status
    assert status["mergeBlocked"] is True
    assert [c["status"] for c in status["conditions"] if c["type"] == "MergeAllowed"] == ["False"]


def test_a_status_that_says_nothing_of_the_merge_blocks_it(run: str, cluster: RealCluster) -> None:
    assert write_status(cluster, run, {"phase": "Running"}) == ""
    assert cluster.get("testruns.dawg.dev", run)["status"]["mergeBlocked"] is True


def test_the_risk_that_is_found_is_stored_as_it_was_written(run: str, cluster: RealCluster) -> None:
    outputs = {"level": "high", "score": "1.000", "source": "rules", "summary": "; ".join(["ä" * 300] * 12)}
    found = find_risk(a_graph(a_step("predict", "predict-risks")), (ended(),), {0: outputs})

    assert write_status(cluster, run, {"term": 1, "risk": found}) == ""
    assert cluster.get("testruns.dawg.dev", run)["status"]["risk"] == found
    assert len((found or {})["reasons"]) == 10


def test_a_former_leaders_status_is_refused(run: str, cluster: RealCluster) -> None:
    assert write_status(cluster, run, {"term": 5, "phase": "Queued"}) == ""
    assert write_status(cluster, run, {"term": 5, "phase": "Running"}) == ""
    late = "a newer leader has written this status"
    assert late in write_status(cluster, run, {"term": 4})
    assert late in write_status(cluster, run, {"term": None})
    assert write_status(cluster, run, {"term": 6}) == ""


def test_a_verdict_is_final(run: str, cluster: RealCluster) -> None:
    assert write_status(cluster, run, {"term": 1, "verdict": "Failed"}) == ""
    final = "a verdict is final"
    assert final in write_status(cluster, run, {"verdict": "Passed"})
    assert final in write_status(cluster, run, {"verdict": None})
    assert final in write_status(cluster, run, None)
    assert write_status(cluster, run, {"results": {"stored": True}}) == ""
    assert cluster.get("testruns.dawg.dev", run)["status"]["verdict"] == "Failed"


def test_runs_are_selected_by_their_verdict(cluster: RealCluster) -> None:
    open_run, passed = (cluster.create(a_run())["metadata"]["name"] for _ in range(2))
    assert write_status(cluster, passed, {"verdict": "Passed"}) == ""

    def selected(selector: str) -> set[str]:
        listed = cluster.done("get", "dtr", "-o", "json", "--field-selector", selector)
        return {item["metadata"]["name"] for item in json.loads(listed)["items"]}

    assert open_run in selected("status.verdict=")
    assert passed not in selected("status.verdict=")
    assert passed in selected("status.verdict=Passed")


def test_the_table_says_what_people_ask_first(run: str, cluster: RealCluster) -> None:
    status = {
        "verdict": "Failed", "progress": "7/12", "mergeBlocked": True, "tests": {"failed": 3},
        "conditions": [{"type": "Finished", "status": "True", "reason": "TestsFailed"}],
    }  # fmt: skip
    assert write_status(cluster, run, status) == ""

    header, row = cluster.done("get", "dtr", run).splitlines()
    assert header.split() == ["NAME", "VERDICT", "PROGRESS", "FAILED", "BLOCKED", "PRIORITY", "AGE"]
    assert row.split()[1:6] == ["Failed", "7/12", "3", "true", "medium"]
    header, row = cluster.done("get", "dtr", run, "-o", "wide").splitlines()
    assert header.split() == ["NAME", "VERDICT", "PROGRESS", "FAILED", "BLOCKED", "PRIORITY", "POOL", "REASON", "AGE"]
    assert row.split()[6:8] == ["default", "TestsFailed"]


def test_all_kinds_are_listed_by_one_word(run: str, cluster: RealCluster) -> None:
    assert f"testrun.dawg.dev/{run}" in cluster.done("get", "dawg", "-o", "name")
    for short in ("dtr", "dwf", "dsc", "dap"):
        cluster.done("get", short)
