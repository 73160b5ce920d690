"""The life of MERGE_BLOCKED: which commit stands in it, why, and when it goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dawg_orchestrator.client import mergeblock
from dawg_orchestrator.client.mergeblock import Block, UnreadableBlock, after, block_of, dumped, loaded
from dawg_orchestrator.client.testruns import Run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(hours=24)
OLD, NEW, AMENDED = ("a" * 40, "b" * 40, "c" * 40)
HISTORY = {OLD: {OLD}, NEW: {OLD, NEW}, AMENDED: {AMENDED}}


def contains(commit: str, ancestor: str) -> bool:
    return ancestor in HISTORY[commit]


def a_run(**status: Any) -> Run:
    raw = {"metadata": {"name": "watch-x", "namespace": "team", "uid": "u"}, "spec": {}, "status": status}
    return Run.of(raw)


def a_block(commit: str, reason: str = "MergeBlocked", since: datetime = NOON) -> Block:
    return Block(commit, reason, "unit is Failed", since, since + DAY)


FAILED = a_run(
    verdict="Failed", mergeBlocked=True,
    conditions=[{"type": "MergeAllowed", "status": "False", "reason": "MergeBlocked", "message": "unit is Failed",
                 "lastTransitionTime": "2026-01-01T12:00:00Z"}],
    tasks=[{"name": "unit", "verdict": "Failed", "reason": "ExitCode", "message": "it ended with 1"},
           {"name": "lint", "index": 1, "verdict": "Passed"}],
)  # fmt: skip
PASSED = a_run(
    verdict="Passed", mergeBlocked=False,
    conditions=[{"type": "MergeAllowed", "status": "True", "reason": "MergeAllowed", "message": "",
                 "lastTransitionTime": "2026-01-01T12:00:00Z"}],
)  # fmt: skip


def test_a_blocked_run_names_what_speaks_against_it_and_what_to_do() -> None:
    block = block_of(FAILED, NEW, "topic", NOON, DAY)

    assert block is not None
    assert (block.commit, block.branch, block.reason, block.message) == (NEW, "topic", "MergeBlocked", "unit is Failed")
    assert [(task.name, task.reason) for task in block.tasks] == [("unit", "ExitCode")]
    assert block.next_action == "see what the command said: dawg logs watch-x"
    assert (block.since, block.expires) == (NOON, NOON + DAY)


@pytest.mark.parametrize(
    "status", [{}, {"mergeBlocked": False}, {"mergeBlocked": True, "verdict": "Passed"}],
    ids=["not seen", "without its condition", "blocked though it passed"],
)  # fmt: skip
def test_what_is_not_known_is_blocked(status: dict[str, Any]) -> None:
    block = block_of(a_run(**status), NEW, None, NOON, DAY)

    assert block is not None
    assert block.pending


def test_an_allowed_run_is_no_block() -> None:
    assert block_of(PASSED, NEW, None, NOON, DAY) is None


@pytest.mark.parametrize(
    ("standing", "wanted", "commit", "stands"),
    [
        (None, a_block(NEW), NEW, a_block(NEW)),
        (a_block(NEW, "TestsPending"), a_block(NEW), NEW, a_block(NEW)),
        (a_block(NEW), None, NEW, None),
        (a_block(OLD), None, NEW, None),
        (a_block(OLD), None, AMENDED, a_block(OLD)),
        (a_block(NEW), None, OLD, a_block(NEW)),
        (a_block(OLD), a_block(NEW, "TestsPending"), NEW, a_block(OLD)),
        (a_block(OLD), a_block(AMENDED), AMENDED, a_block(AMENDED)),
    ],
    ids=[
        "first", "the verdict after pending", "lifted by its own run", "lifted by a later commit",
        "not lifted by a commit beside it", "not lifted by an earlier commit", "failures say more than pending",
        "replaced by a commit beside it",
    ],
)  # fmt: skip
def test_what_stands_after_a_run(
    standing: Block | None, wanted: Block | None, commit: str, stands: Block | None
) -> None:
    assert after(standing, wanted, commit, contains, NOON) == stands


def test_the_oldest_blocked_commit_stays_named_with_what_the_newest_says() -> None:
    later = Block(NEW, "MergeBlocked", "other is Failed", NOON + timedelta(hours=1), NOON + timedelta(hours=25))

    stands = after(a_block(OLD), later, NEW, contains, NOON + timedelta(hours=1))

    assert stands is not None
    assert (stands.commit, stands.since) == (OLD, NOON)
    assert (stands.message, stands.expires) == ("other is Failed", later.expires)


def test_what_has_expired_no_longer_stands() -> None:
    late = NOON + DAY

    assert a_block(OLD).holds(late - timedelta(seconds=1))
    assert after(a_block(OLD), a_block(NEW), NEW, contains, late) == a_block(NEW)
    assert after(a_block(OLD), None, AMENDED, contains, late) is None


def test_the_file_tells_programs_all_of_it_in_ascii() -> None:
    block = block_of(FAILED, NEW, "t\u00f6pic\x1b", NOON, DAY)
    assert block is not None

    text = dumped(block)

    assert loaded(text) == block
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text).keys() == {
        "version", "commit", "branch", "reason", "message", "tasks", "run", "namespace", "nextAction", "since",
        "expires",
    }  # fmt: skip


def test_a_file_is_whole_or_not_there_and_links_are_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "MERGE_BLOCKED", tmp_path / "other"
    other.write_text("mine")
    path.symlink_to(other)

    with pytest.raises(UnreadableBlock):
        mergeblock.read(path)
    mergeblock.write(path, a_block(OLD))

    assert mergeblock.read(path) == a_block(OLD)
    assert other.read_text() == "mine"
    mergeblock.write(path, None)
    mergeblock.write(path, None)
    assert mergeblock.read(path) is None
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["other"]
