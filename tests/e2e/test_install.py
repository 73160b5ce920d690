"""The chart in a cluster with a load: a release beside another, upgraded, taken to further namespaces, reinstalled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, zip_longest
from typing import Any

import pytest

from cluster_at_hand import AGENT_PODS, RELEASE, TASK_PODS, JsonObject, Kubectl, eventually
from command_line import dawg
from doors import Api
from releases import LEASE, Release, release_beside
from stories import Story, task
from watched import watched

RUNS, POOLS, DEFINITIONS = "testruns.dawg.dev", "agentpools.dawg.dev", "customresourcedefinitions"
PHASES = ["", "Queued", "Running", "Finished"]
POD = (r".metadata.annotations.dawg\.dev/run", ".metadata.uid")
State = tuple[int, str, str]  # term, phase, a letter for each task

# Ends when the story says so, with a word in its log and a report.
TOLD_TO_END = """
until [ -e /tmp/go ]; do sleep 0.1; done
echo a word at the end
echo '<testsuite><testcase name="good"/></testsuite>' > $DAWG_RESULTS/junit.xml
"""


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """A release of this file alone."""
    with release_beside() as release:
        yield release


@pytest.fixture
def there(release: Release) -> Iterator[Story]:
    """A story in that release's namespace."""
    story = Story(release.kubectl)
    yield story
    story.clean_up()


def uids(kubectl: Kubectl, kind: str, selector: str = "") -> dict[str, str]:
    """The uids of all objects of a kind, by name."""
    return {entry["metadata"]["name"]: entry["metadata"]["uid"] for entry in kubectl.items(kind, selector)}


def definitions(kubectl: Kubectl) -> list[JsonObject]:
    """Our definitions."""
    return [found for found in kubectl.items(DEFINITIONS) if found["spec"]["group"] == "dawg.dev"]


def test_a_release_beside_another_shares_its_definitions_and_both_run_tests(
    story: Story, there: Story, kubectl: Kubectl
) -> None:
    runs = {story: story.when_applied(task()), there: there.when_applied(task())}

    assert [each.then_finishes(run)["verdict"] for each, run in runs.items()] == ["Passed", "Passed"]
    owners = {found["metadata"]["annotations"]["meta.helm.sh/release-name"] for found in definitions(kubectl)}
    assert owners == {RELEASE}


# Upgrade


def went_on(before: State, after: State) -> bool:
    """Whether a status may follow another: nothing is taken back."""
    kept = all(old in (".", new) for old, new in zip_longest(before[2], after[2][: len(before[2])]))
    return kept and before[0] <= after[0] and PHASES.index(before[1]) <= PHASES.index(after[1])


def test_an_upgrade_that_restarts_both_roles_costs_no_test_a_second_attempt(release: Release, there: Story) -> None:
    there.then_pool_has("default", 2)
    term, roles, agents = release.term(), release.role_pods(), uids(release.kubectl, "pods", AGENT_PODS)
    columns = (".metadata.name", ".status.term", ".status.phase", ".status.taskVerdicts")
    with (
        watched(release.kubectl, RUNS, "", *columns) as runs,
        watched(release.kubectl, "pods", TASK_PODS, *POD) as pods,
    ):
        run = there.when_applied(task("busy", "sleep 4", shards={"count": 20}))
        eventually(lambda: "P" in (there.status(run).get("taskVerdicts") or ""), within=60)
        anew: dict[str, Any] = {"podAnnotations": {"example.org/restarted": "yes"}}
        release.upgrade(controller=anew, api=anew)
        status = there.then_finishes(run)

    assert status["taskVerdicts"] == "P" * 20
    assert {entry["attempt"] for entry in status["tasks"]} == {1}
    assert len({pod for name, pod in pods.rows if name == run}) == 20
    states = [(int(number or 0), phase, letters) for name, number, phase, letters in runs.rows if name == run]
    assert [pair for pair in pairwise(states) if not went_on(*pair)] == []
    assert any(number > term and "." in letters for number, _, letters in states), "the upgrade came too late"
    then_another_leads(release, term, roles)
    then_agents_came_back(release, there, agents)


def then_another_leads(release: Release, term: int, former: set[str]) -> None:
    """A controller that was not there before leads, in a later term; nothing of the former pods is left."""
    eventually(lambda: not former & release.role_pods(), within=60, told=lambda: str(release.role_pods()))
    assert release.leader() in release.role_pods()
    assert release.term() > term


def then_agents_came_back(release: Release, there: Story, agents: dict[str, str]) -> None:
    """The same agents as before are connected to the controller that leads now."""
    eventually(lambda: there.pool("default").get("term") == release.term(), within=30)
    there.then_pool_has("default", 2)
    assert uids(release.kubectl, "pods", AGENT_PODS) == agents


def test_runs_go_on_when_the_leaders_lease_was_deleted(release: Release, there: Story) -> None:
    run = there.when_applied(task(run=TOLD_TO_END))
    eventually(lambda: phases_of_pods(there, run) == {"unit": "Running"}, within=60)
    term = eventually(lambda: there.status(run).get("term"), within=30)

    # as it is after a restore without Leases, or when the release has moved to another namespace
    release.kubectl("delete", "lease", LEASE)
    eventually(lambda: release.term() > term, within=60, told=lambda: f"term {release.term()} after {term}")
    tell_to_end(there, run, "unit")

    status = there.then_finishes(run)
    assert (status["verdict"], status["tasks"][0]["attempt"]) == ("Passed", 1)


# Further namespaces


def test_an_upgrade_equips_a_further_namespace_and_takes_what_waited_there(release: Release, there: Story) -> None:
    further = release.given_namespace()
    elsewhere = Story(Kubectl(further))
    waiting = elsewhere.when_applied(task())
    assert there.then_finishes(there.when_applied(task()))["verdict"] == "Passed"
    assert {"type": "Seen", "status": "False", "reason": "NotSeen"}.items() <= seen(elsewhere, waiting).items()
    told = dawg("why", waiting, "--namespace", further, "--release-namespace", release.namespace)
    assert f"watches {release.namespace}, not '{further}'" in told

    release.upgrade(namespaces=[release.namespace, further])

    assert {"dawg-agent", "dawg-task"} <= uids(elsewhere.kubectl, "serviceaccounts").keys()
    assert uids(elsewhere.kubectl, POOLS).keys() == {"default"}
    runs = [(elsewhere, waiting), (elsewhere, elsewhere.when_applied(task())), (there, there.when_applied(task()))]
    assert [each.then_finishes(run)["verdict"] for each, run in runs] == ["Passed"] * 3


def seen(story: Story, run: str) -> JsonObject:
    """Whether a controller has taken the run."""
    return next(entry for entry in story.status(run)["conditions"] if entry["type"] == "Seen")


# Uninstall, and install again


def test_a_new_install_goes_on_where_the_uninstalled_release_stopped(release: Release, there: Story) -> None:
    given_history(release, there, "remembered")
    own = there.given_pool(minAgents=0)
    run = there.when_applied(
        task("early", TOLD_TO_END), task("next", needs=["early"]),
        task("late", TOLD_TO_END, results={"junit": ["*.xml"]}),
    )  # fmt: skip
    eventually(lambda: phases_of_pods(there, run) == {"early": "Running", "late": "Running"}, within=60)
    before, term = kept(release), release.term()
    assert {"default", own, run} <= before.keys()

    with watched(release.kubectl, "pods", TASK_PODS, *POD) as pods:
        release.uninstall()
        then_only_tests_are_left(release)
        tell_to_end(there, run, "early")
        eventually(lambda: phases_of_pods(there, run) == {"early": "Succeeded", "late": "Running"}, within=60)
        assert there.status(run)["taskVerdicts"] == "..."
        assert kept(release) == before

        release.install()
        then_task_passes(there, run, "early")
        tell_to_end(there, run, "late")
        status = there.then_finishes(run)

    assert (status["verdict"], status["tests"]["passed"]) == ("Passed", 1)
    assert {entry["name"]: entry["attempt"] for entry in status["tasks"]} == {"early": 1, "next": 1, "late": 1}
    assert len({uid for name, uid in pods.rows if name == run}) == 3
    assert status["term"] == release.term() > term
    assert kept(release) == before
    with Api(release.kubectl) as api:
        then_log_has(api, run, "a word at the end")
        then_log_has(api, "remembered", "a word to remember")


def given_history(release: Release, there: Story, name: str) -> None:
    """A run that only history knows."""
    there.when_applied(task(run="echo a word to remember"), name=name, ttlAfterFinished="1s")
    eventually(lambda: release.kubectl.get(RUNS, name) is None, within=180)


def then_log_has(api: Api, run: str, word: str) -> None:
    """The log of the run's first task is stored."""
    eventually(lambda: word.encode() in api.get(api.of_run(run, "log"), index=0), within=60)


def tell_to_end(there: Story, run: str, name: str) -> None:
    """Let a task's test go on to its end."""
    (pod,) = (pod for pod in there.task_pods(run) if pod["metadata"]["labels"]["dawg.dev/task"] == name)
    there.kubectl("exec", pod["metadata"]["name"], "--container", "test", "--", "touch", "/tmp/go")


def then_task_passes(there: Story, run: str, name: str) -> None:
    """A task of a run that goes on has passed."""
    assert there.then_task_ends(run, name)["verdict"] == "Passed"


def kept(release: Release) -> dict[str, str]:
    """What an uninstall leaves: runs, pools, the volume and the definitions, by name with their uids."""
    kinds = (RUNS, POOLS, "persistentvolumeclaims")
    found = {name: uid for kind in kinds for name, uid in uids(release.kubectl, kind).items()}
    return found | {entry["metadata"]["name"]: entry["metadata"]["uid"] for entry in definitions(release.kubectl)}


def phases_of_pods(there: Story, run: str) -> dict[str, str]:
    """How far the pods of a run's tasks are, by task."""
    return {pod["metadata"]["labels"]["dawg.dev/task"]: pod["status"]["phase"] for pod in there.task_pods(run)}


def then_only_tests_are_left(release: Release) -> None:
    """Nothing of the chart is there, and of its pods only tests run."""
    eventually(lambda: release.objects() == [], within=60, told=lambda: str(release.objects()))
    eventually(lambda: uids(release.kubectl, "pods") == uids(release.kubectl, "pods", TASK_PODS), within=60)
