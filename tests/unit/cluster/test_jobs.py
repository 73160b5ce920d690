"""The Job of one attempt: what it may do, what it is told, and what stays out of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from builders import NAMESPACE, a_pool, a_spec, a_task_spec
from dawg_orchestrator.cluster.jobs import job_manifest
from dawg_orchestrator.cluster.pods import Surroundings, literal
from dawg_orchestrator.cluster.request import AttemptRequest
from dawg_orchestrator.cluster.sidecar import has_sidecar
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.protocol import SidecarOrder

Json = dict[str, Any]
AROUND = Surroundings("agent:1", "IfNotPresent", "python:3", "https://api:8444", "controller:8443")
GIT = {
    "source": {"git": {"url": "https://example.org/repo", "credentialsSecretRef": {"name": "git"}, "subPath": "sub"}}
}


def request(*tasks: Json, index: int = 0, pool: Json | None = None, run: str = "run", **more: Any) -> AttemptRequest:
    known = {"attempt": 1, "commit": None, "outputs": {}}
    known |= {key: more.pop(key) for key in list(more) if key in known}
    spec = a_spec(*tasks, **more)
    graph = expand(spec)
    return AttemptRequest(
        namespace=NAMESPACE, run=run, run_uid="uid", spec=spec, graph=graph, cell=graph.cells[index],
        pool_name="default", pool=a_pool(**(pool or {})), **known,
    )  # fmt: skip


def pod_of(*tasks: Json, **more: Any) -> Json:
    pod: Json = job_manifest(request(*tasks, **more), AROUND)["spec"]["template"]["spec"]
    return pod


def containers(pod: Json) -> dict[str, Json]:
    return {each["name"]: each for each in [*pod.get("initContainers", ()), *pod["containers"]]}


def environment(container: Json) -> dict[str, str]:
    """As the test sees it: Kubernetes expands what is written in values."""
    env: dict[str, str] = {}
    for entry in container["env"]:
        if "value" in entry:
            env[entry["name"]] = kubernetes_expand(entry["value"], env)
    return env


def kubernetes_expand(text: str, env: dict[str, str]) -> str:
    """What the kubelet makes of commands, arguments and values: $(NAME) if NAME is known, $$ is one dollar."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, text)


FULL = a_task_spec(
    "unit", results={"junit": ["*.xml"]}, services=[{"name": "db", "image": "pg:1", "readiness": {"tcp": 5432}}],
    secrets=[{"name": "s", "key": "k", "env": "TOKEN"}],
)  # fmt: skip


def test_every_container_is_restricted() -> None:
    pod = pod_of(FULL, **GIT)

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod).values():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not security.get("privileged")


def test_only_the_sidecar_has_a_token_and_only_for_uploads() -> None:
    pod = pod_of(FULL, **GIT)

    assert pod["automountServiceAccountToken"] is False
    credentials = {"token", "git"}
    for name, container in containers(pod).items():
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert bool(mounted & credentials) == (name == "sidecar"), name
    token = next(v for v in pod["volumes"] if v["name"] == "token")["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == names.API_AUDIENCE


def test_a_job_never_runs_its_pod_again() -> None:
    spec = job_manifest(request(), AROUND)["spec"]

    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_a_job_belongs_to_its_run_and_says_which_attempt_it_is() -> None:
    job = job_manifest(request(attempt=3), AROUND)

    owner = job["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("TestRun", "run", "uid", True)
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert (labels[names.RUN], labels[names.INDEX], labels[names.ATTEMPT]) == ("uid", "0", "3")
    assert names.SPEC_HASH in job["metadata"]["annotations"]


def test_names_are_by_content_and_fit_whatever_the_runs_name() -> None:
    long = request(run="r" * 253)

    assert len(long.name) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", long.name)
    assert request(run="a-b").name != request(run="a").name
    assert request(attempt=1).name != request(attempt=2).name
    assert request().name == request().name
    for value in job_manifest(long, AROUND)["metadata"]["labels"].values():
        assert len(value) <= 63


def test_without_source_and_results_there_is_no_sidecar() -> None:
    pod = pod_of(a_task_spec())

    assert set(containers(pod)) == {"test"}
    assert [volume["name"] for volume in pod["volumes"]] == ["dawg"]


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ({}, GIT),
        ({"results": {"artifacts": ["*.png"]}}, {}),
        ({"outputs": ["version"]}, {}),
        ({"onFailure": {"hold": "5m"}}, {}),
    ],
)
def test_whoever_leaves_or_needs_something_has_a_sidecar(task: Json, more: Json) -> None:
    assert has_sidecar(request(a_task_spec(**task), **more))


def test_a_task_whose_files_another_one_takes_hands_them_on() -> None:
    tasks = [a_task_spec("build"), a_task_spec("unit", needs=["build"], inputs=[{"from": "build", "path": "dist"}])]

    build, unit = (
        json.loads(environment(containers(pod_of(*tasks, index=n))["sidecar"])["DAWG_ORDER"]) for n in (0, 1)
    )

    assert build["handOn"] == ["dist"]
    assert unit["inputs"] == [{"index": 0, "path": "dist"}]


def test_the_sidecar_is_told_which_patch_its_run_names() -> None:
    ref = "sha256:" + "0" * 64
    source = {"source": {**GIT["source"], "patchRef": ref}}

    order = json.loads(environment(containers(pod_of(a_task_spec(), **source))["sidecar"])["DAWG_ORDER"])

    assert order["patch"] == ref


def test_a_command_has_its_tree_checked_out_before_it_starts() -> None:
    pod = pod_of(a_task_spec(command=["/bin/test"]), **GIT)

    assert [each["name"] for each in pod["initContainers"]] == ["checkout", "sidecar"]
    assert "restartPolicy" not in pod["initContainers"][0]
    test = containers(pod)["test"]
    assert (test["command"], test["workingDir"]) == (["/bin/test"], "/dawg/workspace/sub")


SCRIPT = """pid=$$; for f in $(ls); do echo "$f" "$$f" '$(HOME)' $(DAWG_TASK); done"""


def test_a_script_reaches_the_shell_letter_by_letter() -> None:
    test = containers(pod_of(a_task_spec(run=SCRIPT)))["test"]

    seen = [kubernetes_expand(part, environment(test)) for part in test["command"]]

    assert seen[-1] == SCRIPT
    assert seen[2].startswith("# First process of a test container.")
    assert '$(cat "$control/commit")' in seen[2]


@pytest.mark.parametrize("text", ["", "$", "$$", "$$$", "$(X)", "$$(X)", "a$(X)b$", "$(", "$()"])
def test_what_is_literal_stays_what_it_is(text: str) -> None:
    assert kubernetes_expand(literal(text), {"X": "expanded", "": "empty"}) == text


def test_the_sidecars_order_arrives_whole() -> None:
    task = a_task_spec(results={"artifacts": ["$(DAWG_RUN)/$$.png"]})

    order = SidecarOrder.model_validate_json(environment(containers(pod_of(task))["sidecar"])["DAWG_ORDER"])

    assert order.results.artifacts == ["$(DAWG_RUN)/$$.png"]


def test_the_test_learns_its_parameters_cell_shard_commit_and_earlier_outputs() -> None:
    tasks = [
        a_task_spec("build-image"),
        a_task_spec("unit", needs=["build-image"], matrix={"python-version": ["3.12"]}, shards={"count": 2}),
    ]
    pod = pod_of(
        *tasks, index=2, parameters={"suite": "a$$b", "empty": ""}, commit="c" * 40, outputs={0: {"image-tag": "v1"}}
    )

    env = environment(containers(pod)["test"])

    expected = {
        "DAWG_PARAM_SUITE": "a$$b", "DAWG_PARAM_EMPTY": "", "DAWG_MATRIX_PYTHON_VERSION": "3.12",
        "DAWG_SHARD_INDEX": "1", "DAWG_SHARD_TOTAL": "2", "DAWG_COMMIT": "c" * 40,
        "DAWG_OUTPUT_BUILD_IMAGE_IMAGE_TAG": "v1", "DAWG_TASK": "unit", "DAWG_ATTEMPT": "1",
    }  # fmt: skip
    assert {name: env.get(name) for name in expected} == expected
    assert "DAWG_WAITS_FOR_TREE" not in env


def test_a_script_waits_for_its_tree_only_if_there_is_one() -> None:
    with_tree = environment(containers(pod_of(a_task_spec(), **GIT))["test"])
    only_results = environment(containers(pod_of(a_task_spec(results={"junit": ["*.xml"]})))["test"])

    assert (with_tree["DAWG_WAITS_FOR_TREE"], with_tree["DAWG_WORKSPACE"]) == ("1", "/dawg/workspace/sub")
    assert "DAWG_WAITS_FOR_TREE" not in only_results


def test_a_tasks_own_image_goes_before_the_pools_and_that_before_the_releases() -> None:
    plain = {"name": "unit", "run": "true"}

    images = [
        containers(pod_of(plain | extra, pool=pool))["test"]["image"]
        for extra, pool in (
            ({"image": "own"}, {"jobTemplate": {"image": "pool"}}),
            ({}, {"jobTemplate": {"image": "pool"}}),
            ({}, {}),
        )
    ]

    assert images == ["own", "pool", "python:3"]


def test_a_pools_volumes_cannot_take_the_place_of_ours() -> None:
    template = {"volumes": [{"name": "dawg", "mountPath": "/cache", "emptyDir": {}}]}

    pod = pod_of(FULL, pool={"jobTemplate": template}, **GIT)

    named = [volume["name"] for volume in pod["volumes"]]
    assert len(named) == len(set(named))
    assert {mount["name"]: mount["mountPath"] for mount in containers(pod)["test"]["volumeMounts"]} == {
        "dawg": "/dawg", "pool-dawg": "/cache",
    }  # fmt: skip


def test_services_start_before_the_test_and_are_probed() -> None:
    pod = pod_of(FULL)

    service = containers(pod)["service-db"]
    assert service["restartPolicy"] == "Always"
    assert service["startupProbe"] == {"tcpSocket": {"port": 5432}, "periodSeconds": 1, "failureThreshold": 120}


def test_kueue_gets_its_jobs_suspended_and_labelled() -> None:
    job = job_manifest(request(pool={"kueue": {"queueName": "q", "priorityClass": "p"}}), AROUND)

    assert job["spec"]["suspend"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "p"


def test_the_hash_tells_two_specs_apart_and_the_same_one_not() -> None:
    def hash_of(**more: Any) -> str:
        return str(job_manifest(request(**more), AROUND)["metadata"]["annotations"][names.SPEC_HASH])

    assert hash_of() == hash_of()
    assert hash_of() != hash_of(commit="c" * 40)
