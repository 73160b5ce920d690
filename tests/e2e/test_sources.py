"""Private repositories, from real git servers: one commit for a whole run, and credentials that nobody gets to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cluster_at_hand import AGENT_PODS, JsonObject, Kubectl
from command_line import dawg
from doors import Api
from privategit import PrivateGit, Way, private_git
from stories import Story, task

NO_RETRY = {"infra": {"limit": 0}}


@pytest.fixture(scope="module")
def git(test_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateGit]:
    """A server in the cluster with a private repository; nobody moves its `main`."""
    with private_git(tmp_path_factory.mktemp("git"), test_image) as server:
        yield server


@pytest.fixture(params=["https", "ssh"])
def way(request: pytest.FixtureRequest, git: PrivateGit) -> Way:
    """Each way to the repository."""
    return git.ways[request.param]


def given_source(
    story: Story, way: Way, changed: Mapping[str, str] | None = None, revision: str = "main"
) -> JsonObject:
    """The repository, with a Secret that opens it but for the keys that are changed."""
    name = f"git-{story.mark}"
    story.given(way.secret(name, changed))
    return {"git": {"url": way.url, "revision": revision, "credentialsSecretRef": {"name": name}}}


def seeing(text: str, commit: str, name: str = "unit", **fields: Any) -> JsonObject:
    """A task that passes where a file says this, and everything agrees on the commit."""
    script = f"""
        test "$(cat a.txt)" = {text}
        test "$(git rev-parse HEAD)" = {commit}
        test "$DAWG_COMMIT" = {commit}
    """
    return task(name, script, retry=NO_RETRY, **fields)


# Access


def test_the_right_credentials_open_a_private_repository(story: Story, pool: str, git: PrivateGit, way: Way) -> None:
    main = git.repository.commits[2]
    run = story.when_applied(seeing("three", main), pool=pool, source=given_source(story, way))

    status = story.then_finishes(run)
    assert status["verdict"] == "Passed"
    assert status["source"]["commit"] == main


def test_credentials_that_the_server_refuses_are_infrastructure(story: Story, pool: str, way: Way) -> None:
    run = story.when_applied(task(retry=NO_RETRY), pool=pool, source=given_source(story, way, way.refused))

    entry = story.then_task_ends(run, "unit")
    assert (entry["verdict"], entry["reason"]) == ("InfraError", "SourceRefused")
    assert way.url in entry["message"]
    assert "spec.source.git.credentialsSecretRef" in entry["message"]
    assert "to a Secret with access" in dawg("why", run)


def test_a_server_that_cannot_prove_who_it_is_is_not_trusted(story: Story, pool: str, way: Way) -> None:
    run = story.when_applied(task(retry=NO_RETRY), pool=pool, source=given_source(story, way, way.untrusting))

    entry = story.then_task_ends(run, "unit")
    assert entry["verdict"] == "InfraError"
    (key,) = way.untrusting
    assert entry["reason"] == {"ca.crt": "CertificateUnknown", "known_hosts": "HostKeyUnknown"}[key]
    assert "git Secret" in entry["message"]
    assert key in entry["message"]


# One commit for the whole run


def test_a_full_commit_that_no_branch_ends_in_is_checked_out(
    story: Story, pool: str, git: PrivateGit, way: Way
) -> None:
    first = git.repository.commits[0]
    run = story.when_applied(seeing("one", first), pool=pool, source=given_source(story, way, revision=first))

    status = story.then_finishes(run)
    assert status["verdict"] == "Passed"
    assert status["source"]["commit"] == first


def test_a_branch_that_moves_moves_no_run_that_is_under_way(story: Story, pool: str, git: PrivateGit) -> None:
    before, after = git.repository.commits[1:]
    late = f"late-{story.mark}"
    tasks = [seeing("two", before, "early"), seeing("two", before, "late", pool=late)]
    source = given_source(story, git.ways["https"], revision="feature/x")
    run = story.when_applied(*tasks, pool=pool, source=source)
    story.then_task_ends(run, "early")
    assert story.status(run)["source"]["commit"] == before

    git.move("feature/x", to=after)
    story.given({"apiVersion": "dawg.dev/v1alpha1", "kind": "AgentPool", "metadata": {"name": late}, "spec": {}})
    next_run = story.when_applied(seeing("three", after), pool=pool, source=source)

    status = story.then_finishes(run)
    assert status["taskVerdicts"] == "PP"
    assert status["source"]["commit"] == before
    assert story.then_finishes(next_run)["source"]["commit"] == after


# Secrecy

IN_ENVIRONMENT, IN_FILES, NOWHERE = 41, 42, 43


def searching(traces: list[str]) -> JsonObject:
    """A task that looks for these wherever a test can look; its exit code says where they are."""
    # Written so that a pattern does not find itself in the command line.
    patterns = " ".join(f"-e '[{trace[0]}]{trace[1:]}'" for trace in traces)
    script = f"""
        cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline > seen || true
        env >> seen
        if grep -a -q {patterns} seen; then exit {IN_ENVIRONMENT}; fi
        rm seen
        # What it may not read makes grep fail, whatever it has found.
        grep -r -s -l {patterns} --exclude-dir=proc --exclude-dir=sys / > "$DAWG_RESULTS/found" || true
        if [ -s "$DAWG_RESULTS/found" ]; then cat "$DAWG_RESULTS/found"; exit {IN_FILES}; fi
        exit {NOWHERE}
    """
    return task(run=script)


def everything_told(kubectl: Kubectl, api: Api, run: str) -> str:
    """All that people get to see of a run: objects, events, history, what the command says, and what agents log."""
    objects = kubectl("get", "testruns.dawg.dev,jobs,pods,events", "-o", "json")
    history = api.get(api.of_run(run)).decode()
    agents = kubectl("logs", "--selector", AGENT_PODS, "--tail=-1")
    return "\n".join([objects, history, agents, *(dawg(word, run) for word in ("why", "status", "logs"))])


def then_not_told(traces: list[str], told: str) -> None:
    """None of them is in it."""
    assert not any(trace in told for trace in traces), "a credential was told"


def test_a_credential_is_nowhere_but_with_the_checkout(
    story: Story, pool: str, kubectl: Kubectl, api: Api, git: PrivateGit, way: Way
) -> None:
    traces = way.traces()
    run = story.when_applied(searching(traces), pool=pool, source=given_source(story, way))

    # A test that fails keeps its pod, and with it the sidecar's log.
    assert story.then_task_ends(run, "unit")["exitCode"] == NOWHERE
    (pod,) = story.task_pods(run)
    sidecar = kubectl("logs", pod["metadata"]["name"], "--container=sidecar")
    assert git.repository.commits[2] in sidecar
    then_not_told(traces, sidecar)
    then_not_told(traces, everything_told(kubectl, api, run))


def test_a_refused_credential_is_not_told_either(story: Story, pool: str, kubectl: Kubectl, api: Api, way: Way) -> None:
    run = story.when_applied(task(retry=NO_RETRY), pool=pool, source=given_source(story, way, way.refused))

    assert story.then_task_ends(run, "unit")["reason"] == "SourceRefused"
    then_not_told(way.traces(way.refused), everything_told(kubectl, api, run))
