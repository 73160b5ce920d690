"""What a project's own runner printed, in the three words that a TestRun counts with.

How the runners' words meet the elements of JUnit, as tried with pytest 9.2 and gotestsum 1.10:

    pytest's last line     in its report                        counted as
    passed                 a bare testcase                      passed
    failed                 failure                              failed
    error(s)               error; a module that cannot be       failed
                           imported is a testcase too
    skipped                skipped; a module that skips itself  skipped
                           is a testcase too
    xfailed                skipped, of type pytest.xfail        skipped
    xpassed                a bare testcase, or a failure where  passed; pytest itself calls the strict one failed
                           xfail is strict
    subtests passed        nothing                              nothing
    deselected, warnings   nothing                              nothing

A report has one testcase for each test, the last line one number for each event. Both agree unless a test has more
than one event: a subtest that fails or skips is counted beside its test, and so is a teardown that fails after the
test itself has ended. No project of ours does that here; counting them would need the report, which is what is tested.

`go test -v` prints one line for each test, example, fuzz seed and subtest, however deep; the report has a testcase for
each of those lines, a parent beside its subtests.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PYTEST_SUMMARY = re.compile(r"^=* ?((?:\d+ [a-z ]+, )*\d+ [a-z ]+) in \d+\.\d+s(?: \([\d:]+\))? ?=*$", re.MULTILINE)
_PYTEST_WORDS = {
    "passed": "passed",
    "xpassed": "passed",
    "failed": "failed",
    "error": "failed",
    "errors": "failed",
    "skipped": "skipped",
    "xfailed": "skipped",
}
_GO_RESULT = re.compile(r"^ *--- (PASS|FAIL|SKIP): ", re.MULTILINE)
_GO_WORDS = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}


class NoSummary(Exception):
    """The runner's output has no line that says how many tests passed."""


@dataclass(frozen=True)
class Counts:
    """Tests by what became of them."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed}/{self.failed}/{self.skipped}"


def total(parts: Iterable[Counts]) -> Counts:
    every = list(parts)
    return Counts(
        passed=sum(part.passed for part in every),
        failed=sum(part.failed for part in every),
        skipped=sum(part.skipped for part in every),
    )


def _counts(found: Mapping[str, int]) -> Counts:
    return Counts(found.get("passed", 0), found.get("failed", 0), found.get("skipped", 0))


def read_pytest(output: str) -> Counts:
    """Read the last line of pytest, such as `1 failed, 1376 passed, 8 skipped, 1 xfailed in 13.50s`."""
    summaries = _PYTEST_SUMMARY.findall(output)
    if not summaries:
        raise NoSummary("pytest printed no line such as `3 passed in 0.10s`")
    found: Counter[str] = Counter()
    for part in summaries[-1].split(", "):
        number, _, word = part.partition(" ")
        if word in _PYTEST_WORDS:
            found[_PYTEST_WORDS[word]] += int(number)
    return _counts(found)


def read_go(output: str) -> Counts:
    """Count the lines such as `--- PASS: TestName (0.00s)` of `go test -v`, which prints no sum."""
    found = Counter(_GO_WORDS[word] for word in _GO_RESULT.findall(output))
    if not found:
        raise NoSummary("go test printed no line such as `--- PASS: TestName (0.00s)`")
    return _counts(found)


def read_status(tests: Mapping[str, Any] | None) -> Counts:
    """Read `tests` of a TestRun's status or of one of its tasks.

    A flaky test is none of the three, so it makes the counts unequal, as it should: nothing is tried twice here.
    """
    return _counts({word: int(number) for word, number in (tests or {}).items()})
