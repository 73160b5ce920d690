"""What a slot is told of an attempt: the same command, variables and folders that a Job's container gets."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NAMESPACE, a_pool, a_spec
from dawg_orchestrator.cluster.jobs import job_manifest
from dawg_orchestrator.cluster.pods import Surroundings
from dawg_orchestrator.cluster.process import expand_references, process_order
from dawg_orchestrator.cluster.request import AttemptRequest
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.resources.protocol import ProcessOrder

AROUND = Surroundings("agent:1", "IfNotPresent", "python:3", "https://api:8444", "controller:8443")
SHARDED = {
    "name": "unit", "run": "pytest $FLAGS", "matrix": {"python": ["3.12"]}, "shards": {"count": 2},
    "env": [{"name": "FLAGS", "value": "-q"}], "outputs": ["version"], "results": {"junit": ["*.xml"]},
}  # fmt: skip
SECRET = {"credentialsSecretRef": {"name": "s"}}
GIT = {"source": {"git": {"url": "https://example.org/repo", "subPath": "sub", **SECRET}}}


def request(task: dict[str, Any], pool: dict[str, Any] | None = None, **spec: Any) -> AttemptRequest:
    parsed = a_spec(task, **spec)
    graph = expand(parsed)
    return AttemptRequest(
        namespace=NAMESPACE, run="run", run_uid="uid", spec=parsed, graph=graph, cell=graph.cells[-1], attempt=2,
        pool_name="warm", pool=a_pool(executor="Process", **(pool or {})), commit=None, outputs={},
    )  # fmt: skip


def order(task: dict[str, Any], pool: dict[str, Any] | None = None, **spec: Any) -> ProcessOrder:
    return process_order(request(task, pool, **spec), AROUND)


def test_a_slot_gets_the_variables_of_a_job() -> None:
    wanted = request(SHARDED, parameters={"suite": "smoke"}, **GIT)
    container = job_manifest(wanted, AROUND)["spec"]["template"]["spec"]["containers"][0]
    of_job = {entry["name"]: entry["value"] for entry in container["env"]}
    del of_job["DAWG_WAITS_FOR_TREE"]  # a slot's tree is there before its command

    assert process_order(wanted, AROUND).env == of_job


def test_a_script_runs_in_the_shell_that_a_job_uses_and_a_command_as_it_is() -> None:
    assert order(SHARDED).argv == ["/bin/sh", "-e", "-c", "pytest $FLAGS"]
    assert order({"name": "unit", "command": ["pytest", "-q"]}).argv == ["pytest", "-q"]


def test_references_are_replaced_as_kubernetes_does_it() -> None:
    pool = {"jobTemplate": {"env": [{"name": "HOST", "value": "db"}]}}
    env = [{"name": "URL", "value": "http://$(HOST)"}, {"name": "ALL", "value": "$(URL)/$(NONE)/$$(HOST)"}]
    told = order({"name": "unit", "command": ["echo", "$(ALL)"], "env": env}, pool)

    assert told.env["ALL"] == "http://db/$(NONE)/$(HOST)"
    assert told.argv == ["echo", "http://db/$(NONE)/$(HOST)"]


@pytest.mark.parametrize("text", ["$", "$$", "$(", "$()", "a$b", "$(1)"])
def test_what_is_no_reference_stays(text: str) -> None:
    assert expand_references(text, {}) == text.replace("$$", "$")


def test_only_a_plain_command_may_be_a_fork_of_what_the_slot_has_imported() -> None:
    pool = {"warm": {"preload": ["pytest"]}}

    assert order({"name": "unit", "command": ["pytest"]}, pool).preloaded
    assert not order({"name": "unit", "run": "pytest"}, pool).preloaded
    assert not order({"name": "unit", "command": ["pytest"]}).preloaded


def test_the_agent_is_told_what_to_check_out_and_to_collect() -> None:
    told = order(SHARDED, **GIT)

    assert (told.git_secret, told.cwd) == ("s", "/dawg/workspace/sub")
    assert told.sidecar.results.junit == ["*.xml"]
    assert order({"name": "unit", "run": "true"}).cwd is None
