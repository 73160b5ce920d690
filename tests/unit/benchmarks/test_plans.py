"""What one look at a large run costs, in numbers that no other work on the machine changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.plans import TASKS, shapes
from builders import NOON
from dawg_orchestrator.planning import conditions
from dawg_orchestrator.planning.testrun import plan_testrun


@pytest.mark.parametrize("shape", ["chain", "layers", "fan"])
def test_a_look_evaluates_each_condition_at_most_once_and_compiles_none_anew(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = shapes()[shape]
    assert len(facts.states) == TASKS
    plan_testrun(facts, NOON)
    asked: Counter[str] = Counter()
    is_met = conditions.is_met

    def counted(expression: str, *args: Any) -> bool:
        asked[expression] += 1
        return is_met(expression, *args)

    monkeypatch.setattr(conditions, "is_met", counted)
    compiled = conditions._program.cache_info().misses

    plan = plan_testrun(facts, NOON)

    assert asked
    assert max(asked.values()) == 1
    assert conditions._program.cache_info().misses == compiled
    assert len(plan.ready) == sum(asked.values()) - 1  # but for the gate
