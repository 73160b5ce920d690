"""Git's hooks in real repositories: what is blocked is neither merged nor pushed, and everything else is."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dawg_orchestrator.client import mergeblock
from dawg_orchestrator.client.cli import app
from dawg_orchestrator.client.mergeblock import Block, BlockedTask
from repositories import Repository, git, new_repository

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A clone that follows a server's repository, with our hooks."""
    repository = new_repository(tmp_path)
    git(repository.work, "remote", "add", "origin", str(repository.bare))
    git(repository.work, "fetch", "--quiet", "origin")
    hooks("install", repository.work)
    return repository


def hooks(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["hooks", *(str(word) for word in words)], env={"COLUMNS": "300"})
    assert done.exit_code == code, done.output
    return done


def a_block(commit: str, **more: object) -> Block:
    return Block(**{
        "commit": commit, "reason": "MergeBlocked", "message": "unit is Failed", "since": NOW,
        "expires": NOW + timedelta(hours=24), "run": "watch-x", "namespace": "team",
        "tasks": (BlockedTask("unit", "Failed", "TestsFailed", "test_sum: 1 != 2"),),
        "next_action": "see the failed cases with `dawg status watch-x`", **more,
    })  # type: ignore[arg-type]  # fmt: skip


def block(repository: Repository, commit: str, **more: object) -> None:
    mergeblock.write(repository.work / ".git/MERGE_BLOCKED", a_block(commit, **more))


def attempt(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Run git as a user would; what it said."""
    who = {f"GIT_{role}_{what}": "dev@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    settings = os.environ | who | {"GIT_CONFIG_GLOBAL": "/dev/null"} | environment
    done = subprocess.run(["git", *words], cwd=folder, env=settings, check=False, capture_output=True, text=True)
    return done.returncode, done.stderr + done.stdout


# Pushing


def test_a_blocked_commit_is_not_pushed_and_the_reason_is_told(repository: Repository) -> None:
    bad = repository.commit({"a.txt": "broken"})
    block(repository, bad)

    code, said = attempt(repository.work, "push", "origin", "main")

    assert code != 0
    told = (bad, "MergeBlocked", "unit Failed TestsFailed test_sum", "dawg status watch-x")
    assert [word for word in told if word not in said] == []
    assert git(repository.bare, "rev-parse", "main") == repository.commits[2]


def test_commits_on_top_are_blocked_with_it_until_it_is_lifted(repository: Repository) -> None:
    block(repository, repository.commit({"a.txt": "broken"}))
    repository.commit({"a.txt": "fixed"})

    assert attempt(repository.work, "push", "origin", "main")[0] != 0

    mergeblock.write(repository.work / ".git/MERGE_BLOCKED", None)
    assert attempt(repository.work, "push", "origin", "main")[0] == 0


def test_other_branches_deletions_and_what_the_server_has_are_not_held_back(repository: Repository) -> None:
    block(repository, repository.commit({"a.txt": "broken"}))
    git(repository.work, "branch", "other", repository.commits[1])
    git(repository.work, "config", "push.default", "nothing")

    assert attempt(repository.work, "push", "origin", "other")[0] == 0
    assert attempt(repository.work, "push", "origin", ":other")[0] == 0

    git(repository.work, "push", "--no-verify", "--quiet", "origin", "main")
    repository.commit({"a.txt": "fixed"})
    assert attempt(repository.work, "push", "origin", "main")[0] == 0


def test_a_tag_of_a_blocked_commit_and_a_detached_head_are_held_back(repository: Repository) -> None:
    block(repository, repository.commit({"a.txt": "broken"}))
    git(repository.work, "tag", "-a", "v2", "-m", "broken")
    git(repository.work, "checkout", "--quiet", "--detach")
    repository.commit({"b.txt": "more"})

    assert attempt(repository.work, "push", "origin", "v2")[0] != 0
    assert attempt(repository.work, "push", "origin", "HEAD:refs/heads/topic")[0] != 0


def test_a_block_does_not_outlive_its_time(repository: Repository) -> None:
    block(repository, repository.commit({"a.txt": "broken"}), expires=NOW - timedelta(seconds=1))

    assert attempt(repository.work, "push", "origin", "main")[0] == 0


def test_a_push_from_another_work_tree_is_held_back_as_well(repository: Repository, tmp_path: Path) -> None:
    git(repository.work, "worktree", "add", "--quiet", "-b", "topic", str(tmp_path / "second"))
    (tmp_path / "second/a.txt").write_text("broken")
    git(tmp_path / "second", "commit", "--quiet", "-am", "broken")
    bad = git(tmp_path / "second", "rev-parse", "HEAD")
    own = Path(git(tmp_path / "second", "rev-parse", "--absolute-git-dir"))
    mergeblock.write(own / "MERGE_BLOCKED", a_block(bad))

    assert attempt(tmp_path / "second", "push", "origin", "topic")[0] != 0
    assert attempt(repository.work, "push", "origin", "topic")[0] != 0
    assert attempt(repository.work, "push", "origin", "main")[0] == 0


# Committing and merging


def test_the_fix_can_be_committed_and_a_warning_is_given(repository: Repository) -> None:
    block(repository, repository.commit({"a.txt": "broken"}))
    (repository.work / "a.txt").write_text("fixed")

    code, said = attempt(repository.work, "commit", "-am", "fix")

    assert code == 0
    assert "a commit that fixes it is welcome" in said


def test_a_blocked_branch_is_not_merged_not_even_in_two_steps(repository: Repository) -> None:
    git(repository.work, "checkout", "--quiet", "-b", "topic")
    block(repository, repository.commit({"b.txt": "broken"}))
    git(repository.work, "checkout", "--quiet", "main")
    repository.commit({"c.txt": "meanwhile"})

    code, said = attempt(repository.work, "merge", "topic", "-m", "merge")
    assert code != 0
    assert "test_sum" in said
    assert attempt(repository.work, "commit", "-m", "merge")[0] != 0

    git(repository.work, "merge", "--abort")
    git(repository.work, "checkout", "--quiet", "topic")
    assert attempt(repository.work, "merge", "main", "-m", "update")[0] == 0


# Going past it


@pytest.mark.parametrize(
    ("words", "environment"),
    [((), {"DAWG_OVERRIDE": "the server is on fire"}), (("-c", "dawg.override=the server is on fire"), {})],
    ids=["variable", "git -c"],
)
def test_an_override_is_recorded_with_who_why_and_what(
    words: tuple[str, ...], environment: dict[str, str], repository: Repository
) -> None:
    bad = repository.commit({"a.txt": "broken"})
    block(repository, bad)

    assert attempt(repository.work, *words, "push", "origin", "main", **environment)[0] == 0

    (line,) = (repository.work / ".git/dawg-overrides.log").read_text().splitlines()
    record = json.loads(line)
    assert datetime.fromisoformat(record.pop("time")) >= NOW
    assert record == {
        "who": "dev@example.org <dev@example.org>", "what": "pre-push", "commit": bad, "blocked": "MergeBlocked",
        "reason": "the server is on fire",
    }  # fmt: skip


def test_an_override_without_a_reason_or_from_a_file_is_none(repository: Repository) -> None:
    block(repository, repository.commit({"a.txt": "broken"}))
    git(repository.work, "config", "dawg.override", "always")

    assert attempt(repository.work, "push", "origin", "main")[0] != 0
    code, said = attempt(repository.work, "push", "origin", "main", DAWG_OVERRIDE=" ")

    assert code != 0
    assert "needs a reason" in said
    assert not (repository.work / ".git/dawg-overrides.log").exists()


def test_an_override_that_cannot_be_recorded_is_refused(repository: Repository, tmp_path: Path) -> None:
    block(repository, repository.commit({"a.txt": "broken"}))
    (repository.work / ".git/dawg-overrides.log").symlink_to(tmp_path / "elsewhere")

    assert attempt(repository.work, "push", "origin", "main", DAWG_OVERRIDE="because")[0] != 0
    assert not (tmp_path / "elsewhere").exists()


# What others may have written


@pytest.mark.parametrize("content", ["", "{}", '{"commit": "HEAD"}', "[]", '{"commit": 5}', "\0"])
def test_a_file_that_says_nothing_clear_blocks(content: str, repository: Repository) -> None:
    (repository.work / ".git/MERGE_BLOCKED").write_text(content)

    code, said = attempt(repository.work, "push", "origin", "feature/x:other")

    assert code != 0
    assert "cannot be read" in said


def test_a_link_is_not_followed(repository: Repository, tmp_path: Path) -> None:
    elsewhere = mergeblock.dumped(a_block("0" * 40, message="do not tell"))  # would let pass what is pushed here
    (tmp_path / "elsewhere").write_text(elsewhere)
    (repository.work / ".git/MERGE_BLOCKED").symlink_to(tmp_path / "elsewhere")

    code, said = attempt(repository.work, "push", "origin", "feature/x:other")

    assert code != 0
    assert "do not tell" not in said
    mergeblock.write(repository.work / ".git/MERGE_BLOCKED", a_block(repository.commits[0]))
    assert (tmp_path / "elsewhere").read_text() == elsewhere


def test_what_a_block_says_cannot_talk_to_the_terminal(repository: Repository) -> None:
    bad = repository.commit({"odd\n\x1b[31mname": "broken"})
    tasks = (BlockedTask("\x1b]0;owned\x07unit", "Failed", None, "first\nsecond\u202e"),)
    block(repository, bad, message="\x1b[2Jgone\r\n", branch="odd\x1bname", tasks=tasks)

    code, said = attempt(repository.work, "push", "origin", "main")

    assert code != 0
    assert not [line for line in said.splitlines() if line.startswith("dawg:") and not line.isprintable()]
    assert "second" in said


# Being there


def test_a_hook_that_was_there_before_runs_with_the_same_words(repository: Repository) -> None:
    hooks("uninstall", repository.work)
    theirs = repository.work / ".git/hooks/pre-push"
    theirs.write_text('#!/bin/sh\necho "$@" > ../seen\ncat >> ../seen\nexit 3\n')
    theirs.chmod(0o755)
    hooks("install", repository.work)
    hooks("install", repository.work)
    repository.commit({"a.txt": "four"})

    assert attempt(repository.work, "push", "origin", "main")[0] != 0
    said = (repository.work.parent / "seen").read_text()
    assert said.startswith("origin ")
    assert f"refs/heads/main {repository.commits[-1]} refs/heads/main" in said

    hooks("uninstall", repository.work)
    assert theirs.read_text().startswith("#!/bin/sh")


def test_hooks_leave_no_trace(tmp_path: Path) -> None:
    repository = new_repository(tmp_path)
    before = sorted((path, path.read_bytes()) for path in repository.work.rglob("*") if path.is_file())

    hooks("install", repository.work)
    hooks("install", repository.work)
    assert hooks("status", repository.work, "-o", "json").output.count('"installed"') == 3
    hooks("uninstall", repository.work)
    hooks("uninstall", repository.work)

    assert sorted((path, path.read_bytes()) for path in repository.work.rglob("*") if path.is_file()) == before


def test_hooks_go_where_git_looks_for_them(repository: Repository, tmp_path: Path) -> None:
    hooks("uninstall", repository.work)
    git(repository.work, "config", "core.hooksPath", ".husky")
    git(repository.work, "worktree", "add", "--quiet", "-b", "topic", str(tmp_path / "second"))

    hooks("install", repository.work)

    assert (repository.work / ".husky/pre-push").exists()
    assert not (repository.work / ".git/hooks/pre-push").exists()
    block(repository, repository.commit({"a.txt": "broken"}))
    assert attempt(repository.work, "push", "origin", "main")[0] != 0


def test_two_foreign_hooks_are_not_mixed_up(repository: Repository) -> None:
    hooks("uninstall", repository.work)
    for name in ("pre-push", "pre-push.before-dawg"):
        (repository.work / f".git/hooks/{name}").write_text("#!/bin/sh\n")

    assert "is in the way" in hooks("install", repository.work, code=64).output


# On a server


@pytest.fixture
def server(repository: Repository) -> Path:
    git(repository.bare, "config", "receive.advertisePushOptions", "true")
    hooks("install", "--server", repository.bare)
    return repository.bare


def test_a_server_refuses_what_it_has_blocked(repository: Repository, server: Path) -> None:
    bad = repository.commit({"a.txt": "broken"})
    hooks("block", server, bad, "--reason", "checkout-x7k2p failed")
    assert bad in hooks("status", "--server", server).output

    code, said = attempt(repository.work, "push", "origin", "main")
    assert code != 0
    assert "checkout-x7k2p failed" in said
    git(repository.work, "branch", "other", repository.commits[0])
    assert attempt(repository.work, "push", "origin", "other")[0] == 0

    hooks("allow", server, bad)
    assert attempt(repository.work, "push", "origin", "main")[0] == 0


def test_a_server_takes_an_override_as_push_option_only(repository: Repository, server: Path) -> None:
    bad = repository.commit({"a.txt": "broken"})
    hooks("block", server, bad, "--reason", "failed")

    assert attempt(repository.work, "push", "origin", "main", DAWG_OVERRIDE="why not")[0] != 0
    assert attempt(repository.work, "push", "-o", "dawg.override=", "origin", "main")[0] != 0
    assert attempt(repository.work, "push", "-o", "dawg.override=agreed", "origin", "main", REMOTE_USER="ann")[0] == 0

    record = json.loads((server / "dawg-overrides.log").read_text())
    assert (record["who"], record["reason"], record["commit"]) == ("ann", "agreed", bad)


def test_hooks_of_a_server_and_of_a_clone_are_not_mistaken(repository: Repository) -> None:
    assert "say --server" in hooks("install", repository.bare, code=64).output
    assert "leave --server out" in hooks("install", "--server", repository.work, code=64).output
    assert "no git repository" in hooks("install", repository.bare.parent.parent, code=64).output
