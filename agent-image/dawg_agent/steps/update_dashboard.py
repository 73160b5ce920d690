"""update-dashboard: an entry that the api keeps with history."""

from __future__ import annotations

from datetime import UTC, datetime

from dawg_agent.steps.about import About, StepOutcome
from dawg_orchestrator.resources.protocol import DashboardEntry
from dawg_orchestrator.resources.steps import UpdateDashboard
from dawg_orchestrator.resources.verdict import Verdict


async def carry_out(inputs: UpdateDashboard, about: About) -> StepOutcome:
    """Put the entry; put again by another attempt it is the same one."""
    level = inputs.level or ("Critical" if about.not_green else "Warning" if _has_flaky(about) else "Info")
    entry = DashboardEntry(
        title=inputs.title, level=level, text=inputs.text, link=inputs.link,
        run=about.run, workflow=about.workflow, task=about.task, created_at=datetime.now(UTC),
    )  # fmt: skip
    await about.kept.show(about.run_uid, about.index, entry)
    return StepOutcome(True, f"{level}: {inputs.title}")


def _has_flaky(about: About) -> bool:
    return any(task.verdict == Verdict.FLAKY for task in about.tasks.values())
