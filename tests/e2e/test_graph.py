"""Tasks of a run, and runs among each other: what starts when, what is left out, what gives way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster_at_hand import JsonObject, eventually
from doors import Api
from stories import Story, task


def by_name(status: JsonObject) -> dict[str, JsonObject]:
    """The tasks' entries by name."""
    return {entry["name"]: entry for entry in status["tasks"]}


# Within a run


@pytest.mark.applied(
    task("build"), task("unit", needs=["build"]), task("lint", needs=["build"]), task("all", needs=["unit", "lint"])
)
def test_a_task_starts_after_those_that_it_needs(story: Story, run: str) -> None:
    status = story.then_finishes(run)
    entries = by_name(status)

    assert status["taskVerdicts"] == "PPPP"
    assert entries["build"]["completionTime"] <= min(entries[name]["startTime"] for name in ("unit", "lint"))
    assert max(entries[name]["completionTime"] for name in ("unit", "lint")) <= entries["all"]["startTime"]


@pytest.mark.applied(
    task("bad", "exit 1"),
    task("after", needs=["bad"]),
    task("report", needs=["bad"], when="tasks['bad'].verdict == 'Failed'"),
    task("quick", when="params.suite == 'smoke'"),
    task("slow", when="params.suite == 'full'"),
    parameters={"suite": "smoke"},
)
def test_what_needs_a_failure_is_skipped_unless_its_condition_wants_it(story: Story, run: str) -> None:
    entries = by_name(story.then_finishes(run))

    told = {name: (entry["verdict"], entry["reason"]) for name, entry in entries.items()}
    assert told["after"] == ("Skipped", "NeedNotPassed")
    assert told["report"][0] == "Passed"
    assert told["quick"][0] == "Passed"
    assert told["slow"] == ("Skipped", "ConditionFalse")
    assert story.status(run)["verdict"] == "Failed"


CELLS = [f"{python} on {system} {shard}/2" for python in ("3.11", "3.12") for system in ("a", "b") for shard in (0, 1)]


@pytest.mark.applied(
    task(
        "unit",
        'echo "$DAWG_MATRIX_PYTHON on $DAWG_MATRIX_OS $DAWG_SHARD_INDEX/$DAWG_SHARD_TOTAL"',
        matrix={"python": ["3.11", "3.12"], "os": ["a", "b"]},
        shards={"count": 2},
    )
)
def test_matrix_and_shards_make_one_task_for_each_cell(story: Story, run: str, api: Api) -> None:
    assert story.then_finishes(run)["taskVerdicts"] == "P" * 8

    logs = [api.get(api.of_run(run, "log"), index=index).decode().strip() for index in range(8)]
    assert sorted(logs) == sorted(CELLS)


@pytest.mark.applied(task("bad", "exit 1"), task("long", "sleep 600"), task("later", needs=["long"]), failFast=True)
def test_fail_fast_ends_what_runs_and_skips_what_waits(story: Story, run: str) -> None:
    entries = by_name(story.then_finishes(run))

    assert entries["bad"]["reason"] == "ExitCode"
    assert (entries["long"]["verdict"], entries["long"]["reason"]) == ("Cancelled", "FailFast")
    assert entries["later"]["verdict"] == "Skipped"


@pytest.mark.applied(task("checked", critical=True), task("optional", "exit 1"))
def test_only_critical_tasks_block_the_merge(story: Story, run: str) -> None:
    status = story.then_finishes(run)

    assert status["verdict"] == "Failed"
    assert status["mergeBlocked"] is False


def test_a_test_starts_when_its_service_is_ready(story: Story, pool: str, test_image: str) -> None:
    shop = {
        "name": "shop", "image": test_image, "readiness": {"tcp": 8123},
        "command": ["sh", "-c", "sleep 2; cd /tmp; exec python3 -m http.server 8123"],
    }  # fmt: skip
    ask = "python3 -c \"import urllib.request; print(urllib.request.urlopen('http://localhost:8123').status)\""
    run = story.when_applied(task("web", ask, services=[shop]), pool=pool)

    assert story.then_finishes(run)["verdict"] == "Passed"


def test_a_secret_for_tests_reaches_the_test_and_nothing_else(story: Story, pool: str, api: Api) -> None:
    secret = f"for-tests-{story.mark}"
    labels = {"dawg.dev/for-tests": "true"}
    story.given({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "labels": labels},
                 "stringData": {"password": "open sesame"}})  # fmt: skip
    wanted = [{"name": secret, "key": "password", "env": "PASSWORD"}]
    run = story.when_applied(task(run='test "${PASSWORD#open }" = "ses""ame"', secrets=wanted), pool=pool)

    status = story.then_finishes(run)
    assert status["verdict"] == "Passed"
    assert "sesame" not in str(status)
    assert b"sesame" not in api.get(api.of_run(run))


def test_a_failed_task_that_is_held_keeps_its_pod_and_its_verdict_comes_at_once(story: Story, pool: str) -> None:
    run = story.when_applied(task(run="echo here > $DAWG_RESULTS/clue; exit 1", onFailure={"hold": "5m"}), pool=pool)

    assert story.then_finishes(run)["verdict"] == "Failed"
    (pod,) = story.task_pods(run)
    assert pod["status"]["phase"] == "Running"
    clue = story.kubectl(
        "exec", pod["metadata"]["name"], "-c", "test", "--", "sh", "-c", "cat clue || cat /dawg/*/clue"
    )
    assert clue.strip() == "here"


@pytest.mark.applied(task("alone", "sleep 1", exclusive=True, shards={"count": 3}))
def test_exclusive_tasks_run_like_others_and_each_once(story: Story, run: str) -> None:
    status = story.then_finishes(run)

    assert status["taskVerdicts"] == "PPP"
    assert {entry["attempt"] for entry in status["tasks"]} == {1}


# Cancelling


def then_pods_go(story: Story, run: str, within: float = 60) -> None:
    """Nothing of the run goes on."""
    eventually(lambda: not story.task_pods(run), within=within, told=lambda: str(story.task_pods(run))[:800])


def test_a_cancelled_run_ends_at_once_and_its_pods_go(story: Story, pool: str) -> None:
    run = story.when_applied(task("long", "sleep 600"), task("later", needs=["long"]), pool=pool)
    story.then_task_waits(run, "long", "Running")

    story.change("testruns.dawg.dev", run, cancelled=True)
    status = story.then_finishes(run)
    assert status["verdict"] == "Cancelled"
    assert status["taskVerdicts"] == "CC"
    then_pods_go(story, run)


def test_a_run_that_is_cancelled_while_its_test_starts_leaves_nothing_behind(story: Story, pool: str) -> None:
    run = story.when_applied(task("starting", "sleep 600", shards={"count": 6}), pool=pool)
    eventually(lambda: len(story.task_pods(run)) == 6, within=60)

    story.change("testruns.dawg.dev", run, cancelled=True)
    assert story.then_finishes(run)["verdict"] == "Cancelled"
    then_pods_go(story, run)


def test_a_run_that_is_deleted_and_created_anew_gets_a_result_of_its_own(story: Story, pool: str) -> None:
    name = story.when_applied(task(run="sleep 3; exit 1"), pool=pool)
    former = story.uid("testruns", name)
    story.then_task_waits(name, "unit", "Running")

    story.kubectl("delete", "testruns.dawg.dev", name)
    story.when_applied(task(run="sleep 5"), name=name, pool=pool)
    status = story.then_finishes(name)
    assert story.uid("testruns", name) != former
    assert status["verdict"] == "Passed"


# Among runs


def in_group(story: Story, pool: str, policy: str) -> Callable[[JsonObject], str]:
    """Apply runs of one group of which one may be under way at a time."""
    concurrency = {"group": f"group-{story.mark}", "policy": policy}
    return lambda wanted: story.when_applied(wanted, pool=pool, concurrency=concurrency)


def test_runs_of_a_group_queue_up(story: Story, pool: str) -> None:
    apply = in_group(story, pool, "Queue")
    first = apply(task(run="sleep 600"))
    story.then_task_waits(first, "unit", "Running")
    second = apply(task())

    waiting = story.then_waits(second, "WaitingForGroup")
    assert first in waiting["queue"]["message"]
    story.change("testruns.dawg.dev", first, cancelled=True)
    assert story.then_finishes(second)["verdict"] == "Passed"
    assert story.status(first)["verdict"] == "Cancelled"


def test_a_newer_run_of_a_group_cancels_the_one_in_progress(story: Story, pool: str) -> None:
    apply = in_group(story, pool, "CancelInProgress")
    first = apply(task(run="sleep 600"))
    story.then_task_waits(first, "unit", "Running")
    second = apply(task())

    assert story.then_finishes(second)["verdict"] == "Passed"
    status = story.status(first)
    assert (status["verdict"], status["tasks"][0]["reason"]) == ("Cancelled", "Superseded")


def test_a_run_of_a_group_that_is_busy_is_skipped(story: Story, pool: str) -> None:
    apply = in_group(story, pool, "Skip")
    first = apply(task(run="sleep 600"))
    story.then_task_waits(first, "unit", "Running")
    second = apply(task())

    status = story.then_finishes(second)
    assert (status["verdict"], status["tasks"][0]["reason"]) == ("Skipped", "ConcurrencySkip")
    assert status["mergeBlocked"] is True


def test_in_a_full_pool_critical_tasks_start_before_low_ones(story: Story) -> None:
    pool = story.given_pool(minAgents=1, maxAgents=1, slots=1)
    first = story.when_applied(task(run="sleep 600"), pool=pool)
    story.then_task_waits(first, "unit", "Running")
    low = story.when_applied(task(), pool=pool, priority="low")
    waiting = story.then_waits(low, "PoolAtMaximum")
    assert "raise maxAgents" in waiting["queue"]["message"]
    critical = story.when_applied(task(), pool=pool, priority="critical")
    story.then_waits(critical, "PoolAtMaximum")

    story.change("testruns.dawg.dev", first, cancelled=True)
    ended = [story.then_finishes(run) for run in (critical, low)]
    assert [status["verdict"] for status in ended] == ["Passed", "Passed"]
    assert ended[0]["tasks"][0]["completionTime"] <= ended[1]["tasks"][0]["startTime"]
