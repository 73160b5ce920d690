"""Which commits failed for a reason of their own, from what the runs of them left: what a model is taught.

    runs of a repository ──► those that have a say ──► tests that failed in all runs of a commit
                                                         without those that failed before it, too ──► failed, or not

A run has a say when tests of its own ran and its verdict is of them: Passed, Flaky or Failed. One that ran into time,
was cancelled or met a fault of the infrastructure says nothing of the commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dawg_orchestrator.resources.verdict import Verdict

SAYING = frozenset({Verdict.PASSED, Verdict.FLAKY, Verdict.FAILED})


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """One finished run. ``failing``: what failed in the end, tests by their number, tasks without a report by name."""

    commit: str
    workflow: str  # empty: the run has none
    created: datetime
    verdict: Verdict
    ran_tests: bool
    failing: frozenset[str] = frozenset()


def own_failures(runs: Iterable[RunOutcome]) -> dict[str, bool]:
    """For each commit of which a run has a say: whether it failed for a reason of its own.

    The runs are of one repository. Workflows are looked at one by one, and one of them is enough to fail:

    - a test that failed in one run of the commit and not in another is flaky;
    - a test that failed in the last run before, which was of another commit, was broken already.
    """
    by_workflow: dict[str, list[RunOutcome]] = defaultdict(list)
    for run in runs:
        if _has_a_say(run):
            by_workflow[run.workflow].append(run)
    failed: dict[str, bool] = {}
    for workflow in by_workflow.values():
        workflow.sort(key=lambda run: run.created)
        for commit, tests in _own(workflow).items():
            failed[commit] = failed.get(commit, False) or bool(tests)
    return failed


def _has_a_say(run: RunOutcome) -> bool:
    """A run that failed without any test that failed did so by a step, whose runs speak for themselves."""
    return run.ran_tests and run.verdict in SAYING and (run.verdict is not Verdict.FAILED or bool(run.failing))


def _own(runs: Iterable[RunOutcome]) -> dict[str, frozenset[str]]:
    """For each commit the tests that it broke; ``runs`` are of one Workflow, oldest first."""
    broken: dict[str, frozenset[str]] = {}
    before: frozenset[str] = frozenset()  # what failed in the last run of another commit
    last: RunOutcome | None = None
    for run in runs:
        if last is not None and last.commit != run.commit:
            before = last.failing
        if run.commit in broken:
            broken[run.commit] &= run.failing
        else:
            broken[run.commit] = run.failing - before
        last = run
    return broken
