"""What is wrong about a command line is said before any cluster is asked, with exit code 64."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dawg_orchestrator import __version__
from dawg_orchestrator.client import exits
from dawg_orchestrator.client.cli import app
from dawg_orchestrator.errors import Conflict, DawgError, Forbidden, Invalid, NotFound, Unavailable

COMMANDS = (
    "run", "wait", "status", "queue", "logs", "why", "cancel", "history", "metrics", "version", "workflows", "workflow",
    "graph", "approve", "approve-fork", "override", "rerun", "schedules", "schedule",
)  # fmt: skip


def dawg(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, input=stdin, env={"TERM": "dumb", "COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("wait",),
        ("wait", "a", "b"),
        ("status", "--no-such-flag"),
        ("status", "-o", "yaml"),
        ("--output", "yaml", "status"),
        ("status", "--limit", "0"),
        ("logs", "a", "--attempt", "zero"),
        ("queue", "test"),
        ("run",),
        ("run", "--image", "alpine"),
        ("run", "--revision", "main", "--", "true"),
        ("run", "--env", "UNSET_ANYWHERE", "--", "true"),
        ("run", "--timeout", "soon", "--", "true"),
        ("run", "--task-timeout", "5", "--", "true"),
        ("wait", "a", "--timeout", "-1s"),
        ("run", "-f", "no-such-file.yaml"),
        ("workflow",),
        ("workflow", "a", "--timeout", "soon"),
        ("graph", "a", "--format", "svg"),
        ("approve",),
        ("approve-fork", "checks", "7"),
        ("approve-fork", "checks", "0", "a" * 40),
        ("approve-fork", "checks", "7", "abc123"),
        ("override", "a"),
        ("override", "a", "--reason", "ok"),
        ("rerun", "a", "--timeout", "soon"),
        ("run", "-f", "-", "--image", "alpine"),
    ],
)
def test_wrong_usage_ends_with_64(arguments: tuple[str, ...]) -> None:
    code, output = dawg(*arguments)

    assert code == 64, output
    assert output.strip()


@pytest.mark.parametrize("text", ["", "kind: Pod", "a: [", "- 1", "\x00"])
def test_a_file_that_is_no_testrun_ends_with_64(text: str) -> None:
    code, output = dawg("run", "-f", "-", stdin=text)

    assert code == 64
    assert "stdin" in output


def test_a_kubeconfig_that_is_not_there_ends_with_4(tmp_path: Path) -> None:
    code, output = dawg("status", "--kubeconfig", str(tmp_path / "none"))

    assert code == 4
    assert "--kubeconfig" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_and_the_shared_options(command: str) -> None:
    code, output = dawg(command, "--help")

    assert code == 0
    assert f"dawg {command}" in output.split("Examples", 1)[1]
    for option in ("--namespace", "--output", "--context", "--kubeconfig"):
        assert option in output


def test_the_version_without_a_cluster_is_the_packages() -> None:
    assert dawg("version", "--client") == (0, f"client: {__version__}\n")


def test_shared_options_may_stand_before_the_command() -> None:
    before = dawg("-o", "json", "version", "--client")
    after = dawg("version", "--client", "-o", "json")

    assert before == after
    assert before[1].startswith("{")


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ("Passed", 0), ("Flaky", 0), ("Failed", 1), ("TimedOut", 1), ("InfraError", 2), ("Cancelled", 3),
        ("Skipped", 3), ("Unheard", 2),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_verdicts(verdict: str, code: int) -> None:
    assert exits.exit_code_of(verdict) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(Invalid("x"), 64), (NotFound("x"), 64), (Conflict("x"), 64), (Unavailable("x"), 4), (Forbidden("x"), 4)],
)
def test_what_people_wrote_is_usage_and_everything_else_is_the_cluster(error: DawgError, code: int) -> None:
    assert exits.exit_code_of_error(error) == code
