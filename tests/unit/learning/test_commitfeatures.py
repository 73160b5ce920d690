from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.learning.commitfeatures import (
    Commit,
    Features,
    FileChange,
    History,
    entropy,
    is_fix,
    read_written,
    written,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def a_commit(*paths: str, author: str = "ann", days: float = 0.0, message: str = "change") -> Commit:
    files = tuple(FileChange(path, added=1, deleted=0, lines_before=10) for path in paths)
    return Commit(author, NOON + timedelta(days=days), message, files)


def last(*commits: Commit) -> Features:
    history = History()
    return [history.observe(commit) for commit in commits][-1]


def test_the_first_commit_of_all_is_the_first_of_its_author_and_of_its_files():
    assert last(a_commit("src/a.py", "b.py", message="Fix the start")) == Features(
        ns=2, nd=2, nf=2, entropy=1, la=2, ld=0, lt=20, fix=1, ndev=1, age=0, nuc=1, exp=1, rexp=1, sexp=1
    )


def test_people_and_commits_that_changed_any_of_the_files_count_once():
    found = last(
        a_commit("a", "b", author="ann"),
        a_commit("a", author="bob"),
        a_commit("c", author="cid"),
        a_commit("a", "b", author="ann"),
    )

    assert (found.ndev, found.nuc) == (2, 3)


def test_age_is_the_mean_of_days_since_each_file_was_changed_and_a_new_file_has_none():
    found = last(a_commit("a"), a_commit("b", days=1), a_commit("a", "b", "new", days=3))

    assert found.age == pytest.approx((3 + 2 + 0) / 3)


def test_experience_counts_the_authors_commits_and_recent_ones_more():
    found = last(
        a_commit("src/a", author="ann"),
        a_commit("src/a", author="bob", days=1),
        a_commit("docs/b", author="ann", days=2),
        a_commit("src/c", author="ann", days=4),
    )

    assert (found.exp, found.sexp) == (3, 2)
    assert found.rexp == pytest.approx(1 / 5 + 1 / 3 + 1)


def test_a_commit_to_two_subsystems_at_once_counts_once_for_its_author():
    assert last(a_commit("src/a", "docs/b"), a_commit("src/a", "docs/b")).sexp == 2


def test_a_renamed_file_keeps_its_history_and_its_former_name_begins_anew():
    moved = Commit("ann", NOON + timedelta(days=5), "move", (FileChange("new", 0, 0, 10, renamed_from="old"),))
    history = History()
    for commit in (a_commit("old", author="bob"), moved):
        found = history.observe(commit)

    assert (found.nuc, found.ndev, found.age) == (2, 2, 5)
    assert history.observe(a_commit("old", days=6)).nuc == 1
    assert history.observe(a_commit("new", days=6)).nuc == 3


def test_files_that_take_each_others_place_in_one_commit_keep_their_own_histories():
    chain = (FileChange("b", 0, 0, 1, renamed_from="a"), FileChange("c", 0, 0, 1, renamed_from="b"))
    for files in (chain, chain[::-1]):
        history = History()
        for commit in (a_commit("a"), a_commit("a"), a_commit("b"), Commit("ann", NOON, "move", files)):
            history.observe(commit)

        assert history.observe(a_commit("b")).nuc == 4
        assert history.observe(a_commit("c")).nuc == 3


def test_a_clock_that_went_back_makes_no_negative_age():
    found = last(a_commit("a", days=3), a_commit("a", days=1))

    assert (found.age, found.rexp) == (0, 2)


def test_a_commit_without_files_is_counted_and_has_no_size():
    found = last(a_commit("a"), a_commit())

    assert found == Features(0, 0, 0, 0, 0, 0, 0, 0, ndev=1, age=0, nuc=1, exp=2, rexp=2, sexp=1)


def test_memory_ends_with_what_was_not_touched_for_the_longest_time():
    history = History(most_changes=10, most_people=3)
    for number in range(50):
        history.observe(a_commit("busy", f"once-{number}", author=f"person-{number}"))

    assert history.observe(a_commit("once-0", author="late")).nuc == 1
    assert history.observe(a_commit("busy", author="person-0")).exp == 1
    assert history.observe(a_commit("busy", author="late")).exp == 2


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh"), max_size=4), st.sampled_from("xyz")), max_size=40))
def test_what_is_remembered_stays_within_its_bounds(commits: list[tuple[set[str], str]]):
    history = History(most_changes=12, most_people=2)
    for paths, author in commits:
        history.observe(a_commit(*paths, author=author))

        kept = [len(file.changes) for file in history._files.values()]
        kept += [len(of) for person in history._people.values() for of in person.by_subsystem.values()]
        assert len(history._people) <= 2
        assert sum(kept) == history._changes
        assert history._changes <= 12 or not history._files


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_entropy_lies_between_one_file_and_all_files_alike(lines: list[int]):
    found = entropy(lines)

    assert 0 <= found <= math.log2(max(1, len(lines))) + 1e-9
    assert entropy([7] * 8) == pytest.approx(3)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Fix the door", True),
        ("hotfix: stop", True),
        ("Closes bug 12", True),
        ("feat: fixed width columns\n\nA regression of yesterday", True),
        ("Add a fixture and a prefix", False),
        ("dispatch and debug", False),
        ("", False),
    ],
)
def test_a_fix_is_told_by_whole_words(message: str, expected: bool):
    assert is_fix(message) is expected


def test_features_do_not_depend_on_the_order_of_a_commits_files():
    histories = defaultdict(list)
    for order in (1, -1):
        history = History()
        for paths in (("a", "src/b"), ("src/b", "src/c", "a"), ("src/c", "d")):
            histories[order].append(history.observe(a_commit(*paths[::order])))

    assert histories[1] == histories[-1]


NUMBERS = st.floats(min_value=0, max_value=1e9) | st.integers(min_value=0, max_value=10**9).map(float)


@given(st.lists(NUMBERS, min_size=14, max_size=14))
def test_features_survive_as_a_short_text(numbers: list[float]):
    features = Features(*numbers)
    text = written(features)

    again = read_written(text)

    assert again == pytest.approx(features, rel=1e-5)
    assert len(text) <= 200
    assert read_written(written(again or features)) == again


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "5", "{}", "[1,2,3]", f"[{'1,' * 13}null]", f"[{'1,' * 13}-1]", f"[{'1,' * 13}NaN]",
     f"[{'1,' * 13}1e13]", f"[{'1,' * 13}{'9' * 400}]", f"[{'1,' * 14}1]"],
)  # fmt: skip
def test_what_are_no_features_is_not_read_as_such(text: str):
    assert read_written(text) is None
