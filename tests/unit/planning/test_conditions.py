"""Conditions of tasks: what they see, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.conditions import is_met
from dawg_orchestrator.resources.expressions import named_tasks


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("true", set()),
        ("tasks['build-image'].verdict == 'Passed'", {"build-image"}),
        ('tasks["a"].verdict == tasks.b.verdict', {"a", "b"}),
        ("tasks[params.which].verdict == 'Passed'", None),
        ("tasks['a'].verdict == 'Passed' || tasks.exists(t, t == 'b')", None),
        ("size(tasks) > 1", None),
    ],
)
def test_a_condition_is_shown_the_tasks_it_may_look_at(expression: str, expected: set[str] | None) -> None:
    assert named_tasks(expression) == expected


def test_a_condition_that_cannot_be_evaluated_says_why() -> None:
    with pytest.raises(InvalidSpec, match="cannot be evaluated: KeyError: 'b'"):
        is_met("tasks.b.verdict == 'Passed'", {"a": {"verdict": "Passed", "outputs": {}}}, {})


def test_a_condition_that_is_no_truth_value_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="must be true or false"):
        is_met("params.suite", {}, {"suite": "smoke"})
