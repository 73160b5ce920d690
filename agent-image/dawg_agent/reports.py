"""Reports of one attempt → the full report for the store and a summary small enough for status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from dawg_agent.junit import ReportError, Try, parse_junit
from dawg_orchestrator.resources.results import (
    MAX_MESSAGE,
    FailedCase,
    FullReport,
    Outcome,
    ReportSummary,
    TestCase,
    UnreadableReport,
)
from dawg_orchestrator.resources.testrun import MAX_TOP_FAILURES, TestCounts

MAX_CASES = 50_000  # cases of one attempt that are kept one by one; beyond, they are only counted
CASES_BUDGET = 24 * 1024 * 1024  # bytes of the names and messages of all kept cases
DETAILS_BUDGET = 16 * 1024 * 1024  # bytes of the details of all kept cases
FAILURES_BUDGET = 16 * 1024  # bytes of failures that travel to status
UNREADABLE_BUDGET = 4 * 1024  # bytes of unreadable files that travel to status
MAX_TEST_NAME = 512

__all__ = ["ParsedReport", "ReportBook", "ReportError", "name_of", "parse_report", "read_report"]  # fmt: skip


@dataclass(frozen=True)
class ParsedReport:
    """What one file says, tries of one test folded into one case."""

    file: str
    cases: tuple[TestCase, ...]

    @property
    def counts(self) -> TestCounts:
        return count(case.outcome for case in self.cases)


def count(outcomes: Iterable[Outcome]) -> TestCounts:
    """Count each test once."""
    of = Counter(outcomes)
    return TestCounts(
        total=of.total(),
        passed=of[Outcome.PASSED],
        failed=of[Outcome.FAILED],
        flaky=of[Outcome.FLAKY],
        skipped=of[Outcome.SKIPPED],
    )


def name_of(case: TestCase) -> str:
    """Name a test as people do: where it lives, then its name."""
    place = case.classname or case.suite or (case.file or "")
    return f"{place}::{case.name}" if place and case.name else place or case.name or "(unnamed test)"


def _case(tried: Try) -> TestCase:
    return TestCase(
        suite=tried.suite,
        classname=tried.classname,
        name=tried.name,
        file=tried.file,
        line=tried.line,
        outcome=tried.outcome,
        duration=tried.duration,
        message=tried.message[:MAX_MESSAGE],
        details=tried.details,
    )


def fold_tries(tries: Iterable[Try]) -> list[TestCase]:
    """Make one flaky case of tries of the same test that ended differently.

    Tries with the same outcome stay separate tests: tools that repeat a name for several tests are more common than
    tools that repeat a test which keeps failing. A skip is no try.
    """
    groups: dict[tuple[str, ...], list[Try]] = {}
    for tried in tries:
        key = (tried.suite, tried.host, tried.classname, tried.name, tried.file or "")
        groups.setdefault(key, []).append(tried)
    cases: list[TestCase] = []
    for group in groups.values():
        ran = [tried for tried in group if tried.outcome is not Outcome.SKIPPED]
        if len(ran) > 1 and len({tried.outcome for tried in ran}) > 1:
            told = next(tried for tried in ran if tried.outcome is not Outcome.PASSED)
            flaky = replace(told, outcome=Outcome.FLAKY, duration=sum(tried.duration for tried in ran))
            cases.append(_case(flaky))
            cases += [_case(tried) for tried in group if tried.outcome is Outcome.SKIPPED]
        else:
            cases += map(_case, group)
    return cases


def read_report(stream: BinaryIO, file: str) -> ParsedReport:
    """Parse one report; ReportError says why it is none."""
    return ParsedReport(file, tuple(fold_tries(parse_junit(stream))))


def parse_report(path: Path, file: str | None = None) -> ParsedReport:
    """Parse the report at a path."""
    with path.open("rb") as stream:
        return read_report(stream, file or path.name)


def _cut_to(text: str, budget: int) -> str:
    """Cut text to a number of UTF-8 bytes, never inside a character."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= budget else encoded[: max(0, budget - 3)].decode(errors="ignore") + "…"


def _size(*texts: str) -> int:
    return sum(len(text.encode(errors="replace")) for text in texts)


class ReportBook:
    """Gathers the reports of one attempt, file by file, within the budgets."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._cases: list[TestCase] = []
        self._outcomes: Counter[Outcome] = Counter()
        self._cases_left = CASES_BUDGET
        self._details_left = DETAILS_BUDGET
        self._truncated = False
        self._unreadable: list[UnreadableReport] = []
        self._failures: list[FailedCase] = []
        self._failures_left = FAILURES_BUDGET

    def add(self, report: ParsedReport) -> None:
        """Take one file's cases."""
        self._files.append(report.file)
        for case in report.cases:
            self._outcomes[case.outcome] += 1
            self._note_failure(case)
            self._cases_left -= _size(case.suite, case.classname, case.name, case.file or "", case.message)
            if len(self._cases) >= MAX_CASES or self._cases_left < 0:
                self._truncated = True
                continue
            self._cases.append(self._within_budget(case))

    def refuse(self, file: str, error: str) -> None:
        """Take note of a file that matched and cannot be read."""
        self._files.append(file)
        room = UNREADABLE_BUDGET - sum(len(item.file) + len(item.error) for item in self._unreadable)
        if room > 0 or not self._unreadable:
            self._unreadable.append(UnreadableReport(file=_cut_to(file, 256), error=_cut_to(error, 512)))

    def full(self) -> FullReport:
        """Everything, for the store."""
        return FullReport(files=self._files, cases=self._cases, truncated=self._truncated)

    def summary(self, missing: list[str]) -> ReportSummary:
        """What travels to status."""
        return ReportSummary(
            files=len(self._files),
            missing=missing,
            unreadable=self._unreadable,
            tests=count(self._outcomes.elements()),
            failures=self._failures,
        )

    def _within_budget(self, case: TestCase) -> TestCase:
        self._details_left -= _size(case.details)
        if self._details_left >= 0 or not case.details:
            return case
        return case.model_copy(update={"details": "(left out: the details of all cases together are too large)"})

    def _note_failure(self, case: TestCase) -> None:
        if case.outcome is not Outcome.FAILED or len(self._failures) >= MAX_TOP_FAILURES or self._failures_left <= 0:
            return
        test = _cut_to(name_of(case), MAX_TEST_NAME)
        message = _cut_to(case.message[:MAX_MESSAGE], min(MAX_MESSAGE, self._failures_left))
        self._failures_left -= _size(test, message)
        self._failures.append(FailedCase(test=test, message=message))
