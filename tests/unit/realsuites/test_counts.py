"""What runners print is read as a TestRun would count it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from realsuites.comparison import Comparison, table
from realsuites.counts import Counts, NoSummary, read_go, read_pytest
from realsuites.projects import PROJECTS
from realsuites.testruns import Finished, Shape

PROJECT = PROJECTS[0]
COMMIT = "4" * 40


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("===== 1 failed, 1376 passed, 8 skipped, 1 xfailed in 13.50s =====", Counts(1376, 1, 9)),
        ("39 passed, 41 skipped in 0.14s", Counts(39, 0, 41)),
        ("=== 3 passed in 75.12s (0:01:15) ===", Counts(3, 0, 0)),
        ("6441 passed, 1 skipped, 56 subtests passed in 11.02s", Counts(6441, 0, 1)),
        ("5 failed, 2 xpassed, 3 errors, 4 deselected, 7 warnings in 0.10s", Counts(2, 8, 0)),
        ("1 error in 0.03s", Counts(0, 1, 0)),
    ],
)
def test_the_last_line_of_pytest_is_read(line: str, counts: Counts) -> None:
    assert read_pytest(f"2 passed in 0.10s\n....F\n{line}\n") == counts


def test_each_result_line_of_go_test_counts_with_those_of_its_subtests() -> None:
    output = """\
=== RUN   TestA
--- FAIL: TestA (0.00s)
    --- PASS: TestA/one (0.00s)
        --- PASS: TestA/one/deep (0.00s)
    --- SKIP: TestA/two (0.00s)
        a_test.go:3: says --- PASS: and means nothing by it
FAIL
"""

    assert read_go(output) == Counts(passed=2, failed=1, skipped=1)


@pytest.mark.parametrize("read", [read_pytest, read_go])
def test_an_output_without_results_is_no_count_of_zero(read: Callable[[str], Counts]) -> None:
    with pytest.raises(NoSummary):
        read("no tests ran in 0.01s\nok  \texample.com/empty\t0.003s [no tests to run]\n")


def _compared(counts: Counts, verdict: str = "Failed", commit: str = COMMIT) -> Comparison:
    run = Finished("attrs-plain", verdict, commit, counts, cells={}, tasks=1)
    return Comparison(PROJECT, COMMIT, own={"0": Counts(5, 1, 2)}, runs={Shape.PLAIN: run})


def test_equal_counts_of_the_same_commit_are_equal() -> None:
    comparison = _compared(Counts(5, 1, 2))

    assert comparison.differences() == []
    assert comparison.row()[-1] == "yes"


@pytest.mark.parametrize(
    ("comparison", "difference"),
    [
        (_compared(Counts(6, 0, 2)), "attrs-plain counted 6/0/2, the own runner 5/1/2"),
        (_compared(Counts(5, 1, 2), verdict="Passed"), "attrs-plain is Passed, expected Failed"),
        (_compared(Counts(5, 1, 2), commit=""), f"attrs-plain tested commit unknown, imported was {COMMIT}"),
    ],
)
def test_a_difference_is_named_below_the_table(comparison: Comparison, difference: str) -> None:
    assert comparison.differences() == [difference]
    assert comparison.row()[-1] == "no"
    assert table([comparison]).endswith(difference)
