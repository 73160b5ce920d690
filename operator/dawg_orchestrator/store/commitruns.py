"""What a finished run says of its commit: whether its tests failed, and what an analysis found the commit to be like.

A run of a patch says nothing: what was tested is no commit. Nor do the steps of a run: the runs that one has started
speak for themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dawg_orchestrator.learning.commitfeatures import read_written, written
from dawg_orchestrator.learning.outcomes import SAYING
from dawg_orchestrator.learning.repositories import repository_name
from dawg_orchestrator.resources.steps import STEPS
from dawg_orchestrator.resources.testrun import TestRunSpec, TestRunStatus
from dawg_orchestrator.resources.verdict import Verdict
from dawg_orchestrator.store.database import Row

if TYPE_CHECKING:
    from dawg_orchestrator.store.testrun import RunTask

_ANALYSIS = "analyze-changes"
_FEATURES = "features"
_LONGEST_KEY = 200
assert _FEATURES in STEPS[_ANALYSIS].outputs  # noqa: S101


def commit_run_of(run: Row, spec: TestRunSpec | None, tasks: list[RunTask]) -> Row | None:
    """The row of ``commit_runs``; None when the run has no say."""
    repository = _repository(run, spec)
    ran = [task for task in tasks if task.cell is not None and task.cell.task.uses is None]
    said = [task for task in ran if task.status.verdict in SAYING]
    if repository is None or run["verdict"] not in SAYING or not said:
        return None
    failing = {
        str(task.status.index): task.key[:_LONGEST_KEY] for task in said if task.status.verdict == Verdict.FAILED
    }
    return {
        "run": run["uid"], "namespace": run["namespace"], "repository": repository, "commit": run["commit"],
        "workflow": run["workflow"] or "", "created": run["created"], "verdict": run["verdict"], "failing": failing,
    }  # fmt: skip


def sample_of(run: Row, spec: TestRunSpec | None, tasks: list[RunTask], status: TestRunStatus) -> Row | None:
    """The row of ``commit_samples``; None when no step of the run has said what the commit is like."""
    repository = _repository(run, spec)
    analyses = (task.status.name for task in tasks if task.cell is not None and task.cell.task.uses == _ANALYSIS)
    for name in analyses if repository is not None else ():
        features = read_written((status.outputs or {}).get(name, {}).get(_FEATURES, ""))
        if features is not None:
            return {
                "namespace": run["namespace"], "repository": repository, "commit": run["commit"],
                "seen": run["created"], "features": written(features), "failed": None,
            }  # fmt: skip
    return None


def _repository(run: Row, spec: TestRunSpec | None) -> str | None:
    source = spec.source if spec is not None else None
    if source is None or source.git is None or source.patch_ref is not None or not run["commit"]:
        return None
    return repository_name(source.git.url).replace("\x00", "")
