"""What is reported about one attempt of a task: by the sidecar beside the test, then by the agent to the controller."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from dawg_orchestrator.resources.model import Model, Time
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import MAX_TOP_FAILURES, ExitCode, TestCounts

MAX_MESSAGE = 1000  # characters of a failure's message that travel to status; the whole text is in the store


class Outcome(StrEnum):
    """What became of one test case over all its tries in one report."""

    PASSED = "passed"
    FAILED = "failed"
    FLAKY = "flaky"
    SKIPPED = "skipped"


class TestCase(Model):
    """One test case of a report, re-runs folded in."""

    __test__ = False

    suite: str = ""
    classname: str = ""
    name: str
    file: str | None = None
    line: int | None = None
    outcome: Outcome
    duration: float = 0.0  # seconds
    message: str = ""  # first line of the failure or the reason of the skip
    details: str = ""  # stack trace and captured output, cut to a budget


class FailedCase(Model):
    """A failed test as it travels to status."""

    test: str
    message: str = ""


class UnreadableReport(Model):
    """A file that matched a declared pattern and is no report we can read."""

    file: str
    error: str


class FullReport(Model):
    """All cases of all reports of one attempt; goes to the api, never to the controller."""

    files: list[str] = Field(default_factory=list)
    cases: list[TestCase] = Field(default_factory=list)
    truncated: bool = False  # more cases than the budget allows were left out


class ReportSummary(Model):
    """What the sidecar found of the declared results, cut to what status can carry (about 24 KiB)."""

    files: int = 0
    missing: list[str] = Field(default_factory=list)  # declared patterns that matched no file, or only empty reports
    unreadable: list[UnreadableReport] = Field(default_factory=list)
    tests: TestCounts | None = None  # None: nothing was declared
    failures: Annotated[list[FailedCase], Field(max_length=MAX_TOP_FAILURES)] = Field(default_factory=list)
    missing_outputs: list[str] = Field(default_factory=list)
    outputs: dict[str, str] = Field(default_factory=dict)
    artifacts: int = 0
    stored: bool = False  # the api has the full report and the files
    store_error: str | None = None
    sha256: str | None = None  # of the full report's JSON as stored


class SidecarEvent(Model):
    """One line of the sidecar's log that starts with SIDECAR_PREFIX; the agent reads them, nobody else writes there.

    ``source``: the tree is checked out at ``commit``. ``failed``: there is no tree, ``reason`` and ``message`` say why.
    ``exited``: the test ended with ``exit_code`` (known early, and the only word while the pod is held for debugging).
    ``collected``: everything was collected; ``summary`` has it.
    """

    event: Literal["source", "failed", "exited", "collected"]
    commit: str | None = None
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    summary: ReportSummary | None = None


SIDECAR_PREFIX = "dawg-event: "


class TaskResult(Model):
    """The end of one attempt as its agent saw it. Facts only: the verdict is the controller's (planning/verdict.py).

    ``infrastructure`` is set when the attempt ended for a reason that is not the test's; then exit code and summary
    may still be there. ``exit_code`` is None when the test never ended by itself.
    """

    exit_code: ExitCode | None = None
    infrastructure: Reason | None = None
    oom_killed: bool = False
    over_limit: Reason | None = None  # what the test used up before it failed
    killed: bool = False  # the pod was deleted or the process killed on the controller's word (cancel, timeout)
    message: str = ""
    commit: str | None = None
    node: str | None = None
    started_at: Time | None = None  # the test container's start; None: it never started
    ended_at: Time | None = None
    summary: ReportSummary | None = None  # None: no sidecar, nothing was declared
    log_stored: bool = False
