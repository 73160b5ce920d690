"""How risky what waits is, and when it is tested: at once where that is high, else when the window ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from builders import NOON
from dawg_orchestrator.learning.timing import Span
from dawg_orchestrator.learning.waiting import choose_start_by_risk, level_of_waiting
from dawg_orchestrator.resources.protocol import Untested
from dawg_orchestrator.resources.workflow import RiskRule

HOUR = timedelta(hours=1)
OLD, NEW = "a" * 40, "b" * 40
SPAN = Span(NOON, NOON + HOUR, NOON + 4 * HOUR)
ATOMS = [RiskRule(paths=["atoms/"], level="critical")]


def waiting(*files: str, **fields: Any) -> Untested:
    known = {"revision": "main", "since": OLD, "head": NEW, "commits": 3, "files": list(files)}
    return Untested.model_validate(known | fields)


@pytest.mark.parametrize(
    ("untested", "rules", "at_once", "why"),
    [
        pytest.param(waiting("src/api/x.py"), [], True, "high: src/api/x.py is api", id="a built-in rule"),
        pytest.param(waiting("atoms/x"), ATOMS, True, "fits spec.risk[0] of the Workflow", id="the Workflow's own"),
        pytest.param(waiting("atoms/x"), [], False, "medium: atoms/x is code", id="that rule is not there"),
        pytest.param(waiting("README.md", "docs/a.md"), [], False, "low: README.md", id="prose"),
        pytest.param(waiting(files=None), [], True, "nobody can name all files", id="nobody knows what changed"),
        pytest.param(waiting(since=None), [], True, "high", id="nothing was tested yet"),
        pytest.param(waiting(commits=0, head=OLD), [], False, "3 commits; until its window ends", id="nothing new"),
    ],
)  # fmt: skip
def test_what_is_high_starts_at_once_and_all_else_when_the_window_ends(
    untested: Untested, rules: list[RiskRule], at_once: bool, why: str
) -> None:
    start, told = choose_start_by_risk(untested, "3 commits", rules, SPAN)

    assert why in told
    assert (start == SPAN.first) is at_once
    assert at_once or SPAN.until - timedelta(seconds=10) < start < SPAN.until


def test_the_gravest_file_counts() -> None:
    assert level_of_waiting(waiting("README.md", "api/x.py", "a.py"), [])[0] == "high"


def test_a_window_that_is_nearly_over_is_used_and_not_left() -> None:
    span = Span(NOON, NOON + HOUR, NOON + HOUR + timedelta(seconds=2))

    assert choose_start_by_risk(waiting("a.md"), "", [], span)[0] == span.first
