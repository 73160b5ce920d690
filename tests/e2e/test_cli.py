"""The command `dawg` against the installed product."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster_at_hand import eventually
from command_line import dawg, dawg_json, start
from stories import Story, task


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 5", 1)], ids=["passed", "failed"])
def test_the_exit_code_of_run_is_the_verdict(story: Story, pool: str, tmp_path: Path, script: str, code: int) -> None:
    file = tmp_path / "testrun.json"
    name = f"cli-{story.mark}"
    file.write_text(json.dumps({
        "apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": name},
        "spec": {"pool": pool, "tasks": [task(run=script)], "ttlAfterFinished": "10m"},
    }))  # fmt: skip

    dawg("run", "-f", str(file), code=code)


def test_a_command_line_becomes_a_run_and_its_log_can_be_read_afterwards(story: Story, pool: str) -> None:
    run = f"line-{story.mark}"
    dawg("run", "--name", run, "--pool", pool, "--", "sh", "-c", "echo hello from the test")

    assert "hello from the test" in dawg("logs", run)
    assert run in dawg("history")


def test_logs_follow_a_test_while_it_runs(story: Story, pool: str) -> None:
    run = story.when_applied(task(run="echo first; sleep 5; echo last"), pool=pool)
    eventually(lambda: story.status(run).get("phase") == "Running", within=90)

    following = start("logs", "-f", run)
    assert following.stdout is not None
    first = following.stdout.readline()
    still_running = "verdict" not in story.status(run)
    rest, _ = following.communicate(timeout=60)

    assert "first" in first
    assert still_running
    assert "last" in rest


def test_a_cancelled_run_ends_with_its_own_exit_code(story: Story, pool: str) -> None:
    run = story.when_applied(task(run="sleep 600"), pool=pool)
    eventually(lambda: story.status(run).get("phase") == "Running", within=90)

    dawg("cancel", run)

    dawg("wait", run, "--timeout", "60s", code=3)
    assert "Cancelled" in dawg("why", run)


def test_why_names_the_pool_that_is_missing_and_those_that_exist(story: Story, pool: str) -> None:
    run = story.when_applied(task(), pool="nowhere")
    story.then_waits(run, "PoolNotFound")

    told = dawg("why", run)

    assert "nowhere" in told
    assert pool in told


def test_figures_are_told_as_json() -> None:
    figures = dawg_json("metrics")

    assert {"totalTasks", "successRate", "averageDurationSeconds", "activeAgents", "queuedTasks"} <= figures.keys()


def test_a_suite_without_workflows_is_refused_with_the_reason() -> None:
    assert "nobodys" in dawg("queue", "test", "--suite", "nobodys", code=64)
