"""Commits from real repositories: their features are those that a slow and separate count finds."""

from __future__ import annotations

import os
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from dawg_agent import commitlog as module
from dawg_agent.commitlog import CommitLog, read_commits
from dawg_agent.git import Access, GitError
from dawg_orchestrator.learning.commitfeatures import Features, History
from integration.agent.histories import RandomHistory, SlowCount, run

HERE = Access("https://git.example.org/shop.git", {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})


def mirrored(work: Path, *options: str) -> Path:
    bare = work.with_suffix(".git")
    run(work.parent, "clone", "--quiet", "--mirror", *options, f"file://{work}", str(bare))
    return bare


def featured(log: CommitLog) -> dict[str, Features]:
    history = History()
    return {number: history.observe(commit) for number, commit in log.commits.items()}


@pytest.mark.parametrize("seed", range(4))
async def test_features_are_those_of_a_slow_count_through_merges_renames_and_odd_names(seed: int, tmp_path: Path):
    head = RandomHistory(tmp_path / "work", random.Random(seed)).grow(40)  # noqa: S311 - a failing seed replays
    slow = SlowCount(tmp_path / "work", head)

    log = await read_commits(HERE, mirrored(tmp_path / "work"), head)

    assert log.missing is None
    assert list(log.commits) == [told.commit for told in slow.all]
    for number, (commit, found) in enumerate(featured(log).items()):
        expected = Features(*slow.features(number))
        assert found == pytest.approx(expected), f"commit {commit}, number {number}: {found} is not {expected}"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Five commits to one file, each of which adds a line."""
    folder = tmp_path / "work"
    folder.mkdir()
    run(folder, "init", "--quiet", "--initial-branch=main")
    for number in range(5):
        (folder / "a").write_text("line\n" * (number + 10))
        run(folder, "add", "-A")
        run(folder, "commit", "--quiet", "-m", f"number {number}")
    return folder


def head_of(folder: Path) -> str:
    return run(folder, "rev-parse", "main").decode().strip()


async def test_with_a_limit_the_newest_are_read_and_lines_before_are_still_right(work: Path):
    log = await read_commits(HERE, mirrored(work), head_of(work), most=2)

    assert [commit.message.strip() for commit in log.commits.values()] == ["number 3", "number 4"]
    assert [commit.files[0].lines_before for commit in log.commits.values()] == [12, 13]
    assert log.missing is not None
    assert "at most 2 are read" in log.missing


@pytest.mark.parametrize("words", [module._MOST_WORDS, 0], ids=["of its files", "of all files"])
async def test_one_commit_alone_is_what_it_is_among_all(
    words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = RandomHistory(tmp_path / "work", random.Random(7)).grow(40)  # noqa: S311 - a failing seed replays
    mirror = mirrored(tmp_path / "work")
    everything = (await read_commits(HERE, mirror, head)).commits
    monkeypatch.setattr(module, "_MOST_WORDS", words)

    alone = {number: await module.read_one(HERE, mirror, number) for number in everything}

    assert alone == everything


async def test_one_commit_for_which_there_is_no_time_is_told_from_a_merge(work: Path):
    with pytest.raises(GitError, match="no time"):
        await module.read_one(HERE, mirrored(work), head_of(work), timedelta())


async def test_when_there_is_no_time_nothing_is_read_and_that_is_said(work: Path):
    log = await read_commits(HERE, mirrored(work), head_of(work), patience=timedelta())

    assert log.commits == {}
    assert log.missing is not None
    assert "there was no time for more" in log.missing


async def test_too_many_changes_end_the_reading_between_commits(work: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_CHANGES", 2)
    monkeypatch.setattr(module, "_AT_ONCE", 1)

    log = await read_commits(HERE, mirrored(work), head_of(work))

    assert len(log.commits) == 3
    assert log.missing is not None
    assert "3 changes of files were read" in log.missing


async def test_an_answer_that_is_too_long_is_asked_for_in_parts(work: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(20):
        (work / f"new-{number}").write_text("line\n")
    run(work, "add", "-A")
    run(work, "commit", "--quiet", "-m", "many")
    whole = await read_commits(HERE, mirrored(work), head_of(work))
    monkeypatch.setattr(module, "OUTPUT_LIMIT", 1000)  # room for a few commits, and for the last without its blobs
    monkeypatch.setattr("dawg_agent.git.OUTPUT_LIMIT", 1000)

    parts = await read_commits(HERE, work.with_suffix(".git"), head_of(work))

    assert len(parts.commits[head_of(work)].files) == 20
    assert parts.commits == whole.commits


async def test_commits_whose_parents_are_missing_are_no_changes_of_all_files(work: Path):
    log = await read_commits(HERE, mirrored(work, "--depth=3"), head_of(work))

    assert [commit.files[0].added for commit in log.commits.values()] == [1, 1]
    assert [commit.files[0].lines_before for commit in log.commits.values()] == [12, 13]


@pytest.mark.parametrize("name", ["--output=x", "main", "HEAD", "0" * 39])
async def test_only_a_full_commit_is_read(work: Path, name: str):
    with pytest.raises(GitError, match="is no full commit"):
        await read_commits(HERE, mirrored(work), name)


async def test_a_commit_that_is_not_there_is_an_error(work: Path):
    with pytest.raises(GitError, match="rev-list failed"):
        await read_commits(HERE, mirrored(work), "1" * 40)


async def test_a_folder_that_is_no_repository_is_never_looked_for_above_it(work: Path):
    bare = mirrored(work)
    shutil.rmtree(bare / "objects")

    with pytest.raises(GitError, match="rev-list failed"):
        await read_commits(HERE, bare, head_of(work))
