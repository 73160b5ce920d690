"""How risky the commits are that wait for a test, and when within a window they are tested.

    files of the commits ──► the gravest rule that fits ──► high or critical: at once
                                                       └──► else: at the end of the window, more may come until then

What nobody knows counts as high: a test is cheaper than a surprise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dawg_orchestrator.learning.changes import ChangedFile
from dawg_orchestrator.learning.riskrules import Level, is_graver, level_of_rules
from dawg_orchestrator.learning.timing import Span
from dawg_orchestrator.resources.protocol import Untested
from dawg_orchestrator.resources.workflow import RiskRule

_BEFORE_THE_END = timedelta(seconds=5)  # the next due time may be the end, and must find the run started


def level_of_waiting(untested: Untested, rules: Sequence[RiskRule]) -> tuple[Level, str]:
    """The level of all that waits together, and why."""
    if untested.since is None:
        return "high", "nothing of it is known"
    if not untested.commits:
        return "low", "nothing was changed"
    if untested.files is None:
        return "high", "nobody can name all files that were changed"
    return level_of_rules([ChangedFile(path) for path in untested.files], rules)


def choose_start_by_risk(untested: Untested, told: str, rules: Sequence[RiskRule], span: Span) -> tuple[datetime, str]:
    """When what waits is tested, and why then; ``told`` is what waits, in words."""
    level, why = level_of_waiting(untested, rules)
    if is_graver(level, "medium"):
        return span.first, f"{told}, {level}: {why}; it does not wait"
    last = max(span.first, span.until - _BEFORE_THE_END)
    risk = f", {level}: {why}" if untested.commits else ""
    return last, f"{told}{risk}; until its window ends it waits for commits of high risk"
