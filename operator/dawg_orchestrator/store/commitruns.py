"""What a finished run says of its commit: whether its tests failed.

A run of a patch says nothing: what was tested is no commit. Nor do the steps of a run: the runs that one has started
speak for themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dawg_orchestrator.learning.outcomes import SAYING
from dawg_orchestrator.learning.repositories import repository_name
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.verdict import Verdict
from dawg_orchestrator.store.database import Row

if TYPE_CHECKING:
    from dawg_orchestrator.store.testrun import RunTask

_LONGEST_KEY = 200


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


def _repository(run: Row, spec: TestRunSpec | None) -> str | None:
    source = spec.source if spec is not None else None
    if source is None or source.git is None or source.patch_ref is not None or not run["commit"]:
        return None
    return repository_name(source.git.url).replace("\x00", "")
