"""Whatever waits or fails says why, and what would change it; and nothing else pays for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cluster_at_hand import JsonObject, Kubectl
from command_line import dawg
from dawg_orchestrator.resources.names import child_name
from stories import Story, task

NO_RETRY = {"infra": {"limit": 0}}


def why(story: Story, run: str) -> tuple[str, str, str]:
    """Verdict, reason and message of a run that has ended."""
    status = story.then_finishes(run)
    finished = next(condition for condition in status["conditions"] if condition["type"] == "Finished")
    return status["verdict"], finished["reason"], finished["message"]


def a_secret(name: str, data: dict[str, str], kind: str = "Opaque", **metadata: dict[str, str]) -> JsonObject:
    """A Secret; ``metadata`` are its labels and annotations."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "stringData": data,
        "metadata": {"name": name, **metadata},
    }


# Pools


def test_a_run_waits_for_its_pool_while_others_pass(story: Story, pool: str) -> None:
    late = f"late-{story.mark}"
    lonely = story.when_applied(task(), pool=late)
    status = story.then_waits(lonely, "PoolNotFound")
    assert late in status["queue"]["message"]
    assert "create it" in status["queue"]["message"]

    other = story.when_applied(task(), pool=pool)
    assert story.then_finishes(other)["verdict"] == "Passed"
    assert story.status(lonely).get("verdict") is None

    story.given({"apiVersion": "dawg.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": late}, "spec": {}})
    assert story.then_finishes(lonely)["verdict"] == "Passed"


# Specs that cannot be carried out


@pytest.mark.applied(task("a", needs=["b"]), task("b", needs=["c"]), task("c", needs=["a"]))
def test_a_circle_in_needs_is_named(story: Story, run: str) -> None:
    verdict, reason, message = why(story, run)

    assert (verdict, reason) == ("Failed", "InvalidSpec")
    assert "circle" in message
    assert message.count("→") == 3
    assert story.task_pods(run) == []


@pytest.mark.applied({"name": "step", "uses": "analyze-failure"})
def test_a_built_in_step_of_a_later_release_is_not_available_and_names_the_field(story: Story, run: str) -> None:
    verdict, reason, message = why(story, run)

    assert (verdict, reason) == ("Failed", "NotAvailable")
    assert "uses" in message


def test_a_gate_over_inline_tasks_is_refused_where_it_is_applied(story: Story, kubectl: Kubectl) -> None:
    with pytest.raises(AssertionError, match=r"spec\.gate needs spec\.workflowRef"):
        story.when_applied(task(), gate={"repository": "acme/shop"})


def test_a_run_waits_for_its_workflow_and_says_which(story: Story) -> None:
    name = f"flow-{story.mark}"
    story.given(
        {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": name},
         "spec": {"workflowRef": {"name": "nowhere"}}}
    )  # fmt: skip

    story.then_waits(name, "WorkflowNotFound")


# Pods that do not start


@pytest.mark.applied(task(scheduling={"nodeSelector": {"dawg.example/nowhere": "true"}}))
def test_a_pod_that_fits_no_node_waits_and_says_what_would_help(story: Story, run: str) -> None:
    entry = story.then_task_waits(run, "unit", "Unschedulable")
    assert "node affinity/selector" in entry["message"]
    assert "add or free a node" in entry["message"]

    story.change("testruns.dawg.dev", run, cancelled=True)
    assert why(story, run)[0] == "Cancelled"


@pytest.fixture
def licences(kubectl: Kubectl) -> Iterator[str]:
    """A resource of which the node has plenty, and which no other pod in the namespace asks for."""
    node = kubectl.items("nodes")[0]["metadata"]["name"]

    def offer(operation: JsonObject) -> None:
        change = [{"path": "/status/capacity/dawg.example~1licence", **operation}]
        kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(change))

    offer({"op": "add", "value": "9"})
    yield "dawg.example/licence"
    offer({"op": "remove"})


def test_a_task_waits_for_quota_and_starts_when_it_is_free(story: Story, pool: str, licences: str) -> None:
    name = f"quota-{story.mark}"
    story.given(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
         "spec": {"hard": {f"requests.{licences}": "1"}}}
    )  # fmt: skip
    one = {"requests": {licences: "1"}, "limits": {licences: "1"}}
    first = story.when_applied(task(run="sleep 600", resources=one), pool=pool)
    story.then_task_waits(first, "unit", "Running")
    second = story.when_applied(task(resources=one), pool=pool)

    entry = story.then_task_waits(second, "unit", "QuotaExceeded")
    assert name in entry["message"]
    assert "raise the ResourceQuota" in entry["message"]

    story.change("testruns.dawg.dev", first, cancelled=True)
    assert story.then_finishes(second)["verdict"] == "Passed"


def test_a_foreign_job_with_the_tasks_name_is_a_conflict_and_is_left_alone(story: Story) -> None:
    late = f"late-{story.mark}"
    run = story.when_applied(task(retry=NO_RETRY), pool=late)
    job = child_name(run, story.uid("testruns", run), "unit", 1)
    pod = {"restartPolicy": "Never", "containers": [{"name": "mine", "image": "localhost/mine"}]}
    story.given(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job},
         "spec": {"suspend": True, "template": {"spec": pod}}}
    )  # fmt: skip
    mine = story.uid("job", job)
    story.given({"apiVersion": "dawg.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": late}, "spec": {}})

    verdict, reason, message = why(story, run)
    assert (verdict, reason) == ("InfraError", "NameConflict")
    assert job in message
    assert story.uid("job", job) == mine


# Sources and Secrets


@pytest.mark.applied(task(retry=NO_RETRY), source={"git": {"url": "https://git.invalid/shop.git"}})
def test_a_repository_that_does_not_answer_is_infrastructure(story: Story, run: str) -> None:
    verdict, reason, message = why(story, run)

    assert (verdict, reason) == ("InfraError", "SourceUnreachable")
    assert "git.invalid" in message


def test_an_ssh_server_without_a_known_key_is_not_trusted(story: Story, pool: str) -> None:
    secret = f"ssh-{story.mark}"
    story.given(
        a_secret(secret, {"ssh-privatekey": "not needed"}, "kubernetes.io/ssh-auth",
                 annotations={"dawg.dev/hosts": "git.invalid"})
    )  # fmt: skip
    git = {"url": "git@git.invalid:shop.git", "credentialsSecretRef": {"name": secret}}
    run = story.when_applied(task(retry=NO_RETRY), pool=pool, source={"git": git})

    verdict, reason, message = why(story, run)
    assert (verdict, reason) == ("InfraError", "HostKeyUnknown")
    assert "known_hosts" in message


def test_credentials_are_sent_to_no_host_that_their_owner_did_not_name(story: Story, pool: str) -> None:
    secret = f"git-{story.mark}"
    story.given(
        a_secret(secret, {"username": "u", "password": "p"}, "kubernetes.io/basic-auth",
                 annotations={"dawg.dev/hosts": "git.example"})
    )  # fmt: skip
    git = {"url": "https://elsewhere.invalid/shop.git", "credentialsSecretRef": {"name": secret}}
    run = story.when_applied(task(retry=NO_RETRY), pool=pool, source={"git": git})

    verdict, reason, message = why(story, run)
    assert (verdict, reason) == ("InfraError", "CredentialsNotAllowed")
    assert "dawg.dev/hosts: elsewhere.invalid" in message
    assert story.task_pods(run) == []


def test_a_secret_that_is_not_for_tests_reaches_none(story: Story, pool: str) -> None:
    secret = f"private-{story.mark}"
    story.given(a_secret(secret, {"key": "value"}))
    run = story.when_applied(task(secrets=[{"name": secret, "key": "key", "env": "KEY"}], retry=NO_RETRY), pool=pool)

    verdict, reason, message = why(story, run)
    assert (verdict, reason) == ("InfraError", "CredentialsNotAllowed")
    assert "dawg.dev/for-tests=true" in message
    assert story.task_pods(run) == []


@pytest.mark.applied(task(secrets=[{"name": "there-is-none", "key": "key", "env": "KEY"}], retry=NO_RETRY))
def test_a_secret_that_is_missing_is_named(story: Story, run: str) -> None:
    verdict, reason, message = why(story, run)

    assert (verdict, reason) == ("InfraError", "SecretMissing")
    assert "there-is-none" in message


# Tests that go beyond what they may


@pytest.mark.applied(
    task(run="python3 -c 'print(len(bytearray(1 << 30)))'", resources={"limits": {"memory": "64Mi"}}, retry=NO_RETRY)
)
def test_a_test_that_runs_out_of_memory_is_told_so(story: Story, run: str) -> None:
    _, reason, message = why(story, run)

    assert reason == "OOMKilled"
    assert "resources.limits.memory" in message


REPORT = '<testsuite><testcase name="quick"/><testcase name="slow"><failure message="too slow"/></testcase></testsuite>'


@pytest.mark.applied(
    task(
        run=f"trap '' TERM\necho '{REPORT}' > $DAWG_RESULTS/junit.xml\nwhile true; do sleep 1; done",
        results={"junit": ["junit.xml"]},
        timeout="2s",
    )
)
def test_a_test_that_ignores_its_timeout_is_ended_and_its_report_still_counts(story: Story, run: str) -> None:
    verdict, reason, _ = why(story, run)

    assert (verdict, reason) == ("TimedOut", "Timeout")
    assert story.status(run)["tests"] == {"total": 2, "passed": 1, "failed": 1, "flaky": 0, "skipped": 0}


@pytest.mark.applied(task("endless", "sleep 600"), task("never", needs=["endless"]), timeout="20s")
def test_a_run_that_takes_too_long_ends(story: Story, run: str) -> None:
    verdict, reason, _ = why(story, run)

    assert (verdict, reason) == ("TimedOut", "RunTimeout")
    assert story.status(run)["taskVerdicts"] in ("TT", "TS")


# Nobody looks


def test_a_run_in_an_unwatched_namespace_is_not_seen_and_why_says_what_to_do(story: Story, kubectl: Kubectl) -> None:
    elsewhere = Kubectl(f"unwatched-{story.mark}")
    story.given({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere.namespace}})
    there = Story(elsewhere)
    run = there.when_applied(task(), name="lonely")

    seen = next(condition for condition in there.status(run)["conditions"] if condition["type"] == "Seen")
    assert (seen["status"], seen["reason"]) == ("False", "NotSeen")
    assert there.status(run)["mergeBlocked"] is True
    said = " ".join(dawg("why", run, "-n", elsewhere.namespace, "--release-namespace", kubectl.namespace).split())
    assert f"not '{elsewhere.namespace}'" in said
    assert f"--set 'namespaces={{{kubectl.namespace},{elsewhere.namespace}}}'" in said


# Last, since its run, applied with the others, is given half a minute to find the image after all


@pytest.mark.applied(task(image="localhost/no-such-image:7", retry=NO_RETRY))
def test_an_image_that_cannot_be_pulled_is_named(story: Story, run: str) -> None:
    verdict, reason, message = why(story, run)

    assert (verdict, reason) == ("InfraError", "ImagePull")
    assert "localhost/no-such-image:7" in message
