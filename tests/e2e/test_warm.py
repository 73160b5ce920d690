"""Slots of agents' own pods: the results, logs and reasons of a Job, and nothing that a test does outlives it."""

from __future__ import annotations

import pytest

from cluster_at_hand import AGENT_PODS, JsonObject, Kubectl, eventually
from doors import Api
from stories import Story, build_and_use, task
from watched import watched

JUNIT = {"junit": ["junit*.xml"]}
REPORT = '<testsuite><testcase name="good"/><testcase name="bad"><failure message="1 != 2"/></testcase></testsuite>'
NO_RETRY = {"infra": {"limit": 0}}


@pytest.fixture(scope="module")
def pool(shared: Story) -> str:
    """A warm pool for all stories of this file that leave it as it was."""
    name = shared.given_pool(
        executor="Process", minAgents=1, maxAgents=1, slots=4,
        jobTemplate={"resources": {"limits": {"memory": "1Gi"}}, "env": [{"name": "FLAVOUR", "value": "warm"}]},
        warm={"workspace": "32Mi", "processes": 64, "preload": ["pytest"]},
    )  # fmt: skip
    shared.then_pool_has(name, 1, within=90)
    return name


def then_slots_work(story: Story, pool: str, count: int = 4) -> None:
    """As many tasks as the pool has slots run at once, and pass."""
    run = story.when_applied(task("all", "sleep 1", shards={"count": count}, retry=NO_RETRY), pool=pool)
    assert story.then_finishes(run)["taskVerdicts"] == "P" * count


def entry(story: Story, run: str) -> JsonObject:
    """The entry of the run's first task, once the run has ended."""
    return min(story.then_finishes(run)["tasks"], key=lambda one: one["index"])


def test_a_short_run_costs_three_writes_at_most(story: Story, pool: str, kubectl: Kubectl) -> None:
    with watched(kubectl, "testruns", "", "metadata.name", "metadata.resourceVersion", "status.verdict") as seen:
        first = story.when_applied(task(), pool=pool)
        eventually(lambda: any(row[0] == first for row in seen.rows), within=60)
        run = story.when_applied(task(), pool=pool)
        eventually(lambda: any(row[0] == run and row[2] for row in seen.rows), within=60)

    versions = {version for name, version, _ in seen.rows if name == run}
    assert 2 <= len(versions) <= 3  # its creation, Running if it takes longer than a moment, its verdict


# The same as in a Job


@pytest.mark.applied(*build_and_use())
def test_values_and_files_reach_the_tasks_that_need_them(story: Story, run: str) -> None:
    assert story.then_finishes(run)["taskVerdicts"] == "PP"


@pytest.mark.applied(task(run=f"echo '{REPORT}' > $DAWG_RESULTS/junit.xml; echo looked at $FLAVOUR", results=JUNIT))
def test_reports_and_logs_are_stored_and_judged(story: Story, run: str, api: Api) -> None:
    found = entry(story, run)

    assert (found["verdict"], found["reason"], found.get("job")) == ("Failed", "TestsFailed", None)
    assert story.status(run)["topFailures"][0]["test"] == "bad"
    assert [case["name"] for case in api.json(api.of_run(run, "report"), index=0)["cases"]] == ["good", "bad"]
    assert api.get(api.of_run(run, "log"), index=0) == b"looked at warm\n"


@pytest.mark.applied(task(run="exit 3"), task("none", "true", results=JUNIT))
def test_exit_codes_and_missing_reports_are_judged_as_ever(story: Story, run: str) -> None:
    reasons = {one["name"]: (one["verdict"], one["reason"]) for one in story.then_finishes(run)["tasks"]}

    assert reasons == {"unit": ("Failed", "ExitCode"), "none": ("Failed", "ReportMissing")}


@pytest.mark.applied(task(run="trap '' TERM; while true; do sleep 1; done", timeout="2s"))
def test_a_test_that_ignores_its_timeout_is_ended(story: Story, run: str) -> None:
    found = entry(story, run)

    assert (found["verdict"], found["reason"]) == ("TimedOut", "Timeout")


@pytest.mark.applied({"name": "gone", "command": ["/no/such/program"], "retry": NO_RETRY})
def test_a_command_that_is_not_there_is_named(story: Story, run: str) -> None:
    found = entry(story, run)

    assert (found["verdict"], found["reason"]) == ("InfraError", "StartFailed")
    assert "/no/such/program" in found["message"]


@pytest.mark.applied(task(image="mine", retry=NO_RETRY))
def test_a_task_that_wants_a_pod_of_its_own_names_the_field(story: Story, run: str) -> None:
    found = entry(story, run)

    assert (found["verdict"], found["reason"]) == ("Failed", "InvalidSpec")
    assert found["message"].startswith("tasks[unit].image: ")


@pytest.mark.applied(
    task("write", "echo 'def test_good(): pass' > test_it.py"),
    {"name": "test", "command": ["pytest", "-q", "--junitxml=/dawg/results/junit.xml", "test_it.py"],
     "needs": ["write"], "inputs": [{"from": "write", "path": "test_it.py"}], "results": JUNIT},
)  # fmt: skip
def test_a_preloaded_pytest_finds_the_tests_of_its_own_task(story: Story, run: str) -> None:
    status = story.then_finishes(run)

    assert status["taskVerdicts"] == "PP"
    assert status["tests"]["passed"] == 1


def test_a_cancelled_test_ends_and_its_slot_is_free(story: Story, pool: str) -> None:
    run = story.when_applied(task("long", "sleep 600", shards={"count": 4}), pool=pool)
    story.then_task_waits(run, "long", "Running")

    story.change("testruns.dawg.dev", run, cancelled=True)
    assert story.then_finishes(run)["verdict"] == "Cancelled"
    then_slots_work(story, pool)


# What a test does to its slot


HOSTILE: dict[str, tuple[str, str, str]] = {
    "daemons": ("(setsid sleep 1000 &) ; setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & exit 0", "Passed", ""),
    "a fork bomb": ("bomb() { bomb | bomb & }; bomb; sleep 20", "Failed", "ProcessLimit"),
    "a full disk": ("head -c 100000000 /dev/zero > /dawg/workspace/fill", "Failed", "WorkspaceFull"),
    "too much memory": ("python3 -c 'x = bytearray(3 << 29); print(len(x))'", "InfraError", "OOMKilled"),
    "killing everybody": ("kill -9 -1; kill -9 1; exit 0", "Failed", "ExitCode"),
    "folders nobody may enter": ("cd /dawg/workspace; mkdir -p deep/er; chmod 000 deep/er deep", "Passed", ""),
}
NOTHING_LEFT = """
for folder in /dawg/workspace /dawg/results /dawg/outputs /tmp /dev/shm; do
  if ls -A "$folder" | grep .; then exit 1; fi
done
test "$(ls -d /proc/[0-9]* | wc -l)" -lt 12
"""


@pytest.mark.parametrize("what", HOSTILE)
def test_what_a_test_does_ends_with_it_is_named_and_the_next_is_unharmed(story: Story, pool: str, what: str) -> None:
    script, verdict, reason = HOSTILE[what]
    run = story.when_applied(task(run=script, retry=NO_RETRY), pool=pool)
    found = entry(story, run)

    assert (found["verdict"], reason and found["reason"]) == (verdict, reason)
    then_slots_work(story, pool)
    clean = story.when_applied(task("clean", NOTHING_LEFT, shards={"count": 4}), pool=pool)
    assert story.then_finishes(clean)["taskVerdicts"] == "PPPP"


SPY = """
if env | grep -i -E 'token|kubeconfig'; then exit 1; fi
if find / -xdev \\( -name 'token*' -o -name 'controller-token' \\) 2>/dev/null | grep secrets; then exit 2; fi
if cat /proc/1/environ /proc/1/mem 2>/dev/null | grep -q .; then exit 3; fi
if ls /slots /cache /git-secrets 2>/dev/null | grep .; then exit 4; fi
python3 - <<'PYTHON'
import glob, socket, sys
for path in glob.glob("/run/dawg/*"):
    knock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        knock.connect(path)
        knock.send(b'{"say": "ended", "id": 1, "code": 0, "at": 0, "leftovers": 0, "oom": false}')
    except OSError:
        continue
    if knock.recv(100):
        sys.exit(5)
PYTHON
exit 7
"""


@pytest.mark.applied(task(run=SPY))
def test_a_test_finds_no_credential_and_cannot_speak_for_its_slot(story: Story, run: str) -> None:
    assert entry(story, run)["exitCode"] == 7


# What happens to agents and the controller


@pytest.fixture
def own_pool(story: Story) -> str:
    """A warm pool of two agents for a story that does harm to it."""
    pool = story.given_pool(executor="Process", minAgents=2, maxAgents=2, slots=2)
    story.then_pool_has(pool, 2, within=90)
    return pool


def test_a_running_test_survives_a_restart_of_the_controller(story: Story, kubectl: Kubectl, own_pool: str) -> None:
    run = story.when_applied(task(run="echo begun; sleep 15; echo ended", retry=NO_RETRY), pool=own_pool)
    story.then_task_waits(run, "unit", "Running")

    kubectl("delete", "pods", "-l", "app.kubernetes.io/component=controller", "--grace-period=0", "--force",
            "--wait=false")  # fmt: skip

    found = entry(story, run)
    assert (found["verdict"], found["attempt"]) == ("Passed", 1)


def test_a_test_whose_agent_is_killed_is_infrastructure_and_runs_again(
    story: Story, kubectl: Kubectl, own_pool: str
) -> None:
    run = story.when_applied(
        task(run="sleep 5", retry={"infra": {"limit": 1}, "backoff": {"initial": "100ms"}}), pool=own_pool
    )
    agent = story.then_task_waits(run, "unit", "Running")["agent"]

    kubectl("delete", "pod", agent, "--grace-period=0", "--force", "--wait=false")

    found = entry(story, run)
    assert (found["verdict"], found["attempt"], found["retries"]["infra"]) == ("Passed", 2, 1)
    assert found["agent"] != agent


def test_an_agent_that_is_asked_to_go_finishes_its_test_first(story: Story, kubectl: Kubectl, own_pool: str) -> None:
    run = story.when_applied(task(run="sleep 8", retry=NO_RETRY), pool=own_pool)
    agent = story.then_task_waits(run, "unit", "Running")["agent"]

    kubectl("delete", "pod", agent, "--wait=false")

    found = entry(story, run)
    assert (found["verdict"], found["attempt"], found["agent"]) == ("Passed", 1, agent)
    eventually(lambda: agent not in _names(kubectl, own_pool), within=60)


def _names(kubectl: Kubectl, pool: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in kubectl.items("pods", f"{AGENT_PODS},dawg.dev/pool={pool}")}
