"""What came since a commit, on a real git server: how many commits, whose, in which files, and what if it is gone."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from dawg_agent.git import prepare_access
from dawg_agent.repository import DEPTH
from dawg_agent.untested import LongHistory
from dawg_orchestrator.resources.protocol import MAX_COUNTED, Since, Untested
from integration.agent.gitserver import GitServer
from integration.agent.test_watching import Ear, watch, watching
from repositories import Repository, git


@pytest.fixture
async def ear() -> Ear:
    """What the controller hears."""
    return Ear()


async def counted(server: GitServer, tmp_path: Path, since: str | None, head: str) -> Untested:
    """The answer of an agent that has looked at nothing before."""
    scratch = Path(tempfile.mkdtemp(dir=tmp_path))
    history = LongHistory(prepare_access(f"{server.url}/shop.git", None, scratch), scratch / "mirror")
    return await history.untested(Since(revision="main", commit=since), head)


def many_commits(repository: Repository, number: int) -> str:
    """So many commits, straight into the served repository; returns the last of them."""
    lines = []
    for mark in range(1, number + 1):
        start = f"from {git(repository.bare, 'rev-parse', 'refs/heads/main')}\n" if mark == 1 else ""
        lines.append(
            f"commit refs/heads/main\nmark :{mark}\ncommitter d <d@example.org> {1_700_000_000 + mark} +0000\n"
            f"data 1\nx\n{start}M 100644 inline many/{mark % 3}.txt\ndata {len(str(mark))}\n{mark}\n\n"
        )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repository.bare, input="".join(lines), text=True, check=True)
    return git(repository.bare, "rev-parse", "refs/heads/main")


async def test_commits_are_counted_with_their_authors_and_files_each_time_one_comes(
    tmp_path: Path, server: GitServer, repository: Repository, ear: Ear
) -> None:
    first = repository.commits[0]
    asked = watch(server, branches=[], since=[{"revision": "main", "commit": first}, {"revision": "HEAD"}])
    async with watching(tmp_path, ear, asked):
        before = await ear.next()
        head = repository.commit({"src/new.py": "x"}, "Add \x1b[31mred\x1b[0m\n\nwith a body")
        repository.push()
        after = await ear.next()

    (main, default), (later, _) = before.untested, after.untested
    assert (before.branches, after.branches, after.changes) == ({}, {}, [])
    assert (main.revision, main.since, main.head, main.commits) == ("main", first, repository.commits[2], 2)
    assert (main.files, main.authors, main.rewritten) == (["a.txt"], ["dev@example.org"], False)
    assert (default.revision, default.since, default.head) == ("HEAD", None, repository.commits[2])
    assert (later.head, later.commits, later.files) == (head, 3, ["a.txt", "src/new.py"])
    assert (later.parents, later.author) == ([repository.commits[2]], "dev@example.org")
    assert later.message == "Add \ufffd[31mred\ufffd[0m\n\nwith a body"


async def test_where_nothing_came_there_is_nothing(tmp_path: Path, server: GitServer, repository: Repository) -> None:
    head = repository.commits[2]

    told = await counted(server, tmp_path, head, head)

    assert (told.commits, told.files, told.rewritten) == (0, [], False)


async def test_a_branch_that_is_not_there_is_told_and_holds_up_no_other(
    tmp_path: Path, server: GitServer, repository: Repository, ear: Ear
) -> None:
    asked = watch(server, since=[{"revision": "gone"}, {"revision": "feature/x", "commit": repository.commits[0]}])
    async with watching(tmp_path, ear, asked):
        said = await ear.next()

    assert [(one.revision, one.head, one.commits) for one in said.untested] == [
        ("gone", None, 0),
        ("feature/x", repository.commits[1], 1),
    ]
    assert set(said.branches) == {"main", "feature/x"}


async def test_another_name_that_ends_alike_is_another_branch(
    tmp_path: Path, server: GitServer, repository: Repository, ear: Ear
) -> None:
    git(repository.bare, "update-ref", "refs/heads/other/refs/heads/only", repository.commits[0])
    async with watching(tmp_path, ear, watch(server, branches=[], since=[{"revision": "only"}])):
        said = await ear.next()

    assert [one.head for one in said.untested] == [None]


@pytest.mark.parametrize("forgotten", [False, True], ids=["still there", "forgotten by the server"])
async def test_a_tested_commit_that_was_forced_away_counts_as_changed(
    tmp_path: Path, server: GitServer, repository: Repository, forgotten: bool
) -> None:
    tested = repository.commit({"only.txt": "1"})
    repository.push()
    git(repository.work, "reset", "--quiet", "--hard", "HEAD~2")
    head = repository.commit({"other.txt": "1"})
    repository.push()
    if forgotten:
        git(repository.bare, "reflog", "expire", "--expire=now", "--all")
        git(repository.bare, "gc", "--quiet", "--prune=now")

    told = await counted(server, tmp_path, tested, head)

    assert told.rewritten
    assert (told.commits, told.files) == ((MAX_COUNTED, None) if forgotten else (1, ["other.txt"]))


async def test_a_branch_that_was_set_back_has_changed(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    told = await counted(server, tmp_path, repository.commits[2], repository.commits[0])

    assert (told.commits, told.rewritten) == (1, True)


async def test_more_commits_than_are_fetched_at_first_are_counted_and_there_is_a_most(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    tested = repository.commits[2]
    head = many_commits(repository, DEPTH + 50)
    some = await counted(server, tmp_path, tested, head)
    more = await counted(server, tmp_path, tested, many_commits(repository, MAX_COUNTED))

    assert (some.commits, some.rewritten, some.authors) == (DEPTH + 50, False, ["d"])
    assert some.files == ["many/0.txt", "many/1.txt", "many/2.txt"]
    assert (more.commits, more.rewritten) == (MAX_COUNTED, False)


async def test_a_server_that_fails_meanwhile_is_asked_again(
    tmp_path: Path, server: GitServer, repository: Repository, ear: Ear
) -> None:
    asked = watch(server, branches=[], since=[{"revision": "main", "commit": repository.commits[0]}])
    server.failures_left = 3
    async with watching(tmp_path, ear, asked):
        first, second = await ear.next(), await ear.next()

    assert (first.reason is None, first.untested) == (False, [])
    assert [one.commits for one in second.untested] == [2]
