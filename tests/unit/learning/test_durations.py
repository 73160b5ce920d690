from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.learning.durations import duration_key, learn_durations, quantile


def test_p50_and_p90_lie_between_the_two_nearest_durations() -> None:
    samples = [("a", float(seconds)) for seconds in range(11)]

    assert learn_durations(samples) == {"a": (5.0, 9.0)}


def test_the_same_task_in_another_image_is_learnt_by_itself() -> None:
    assert duration_key("team", "unit", "python:3.12") != duration_key("team", "unit", "python:3.13")


def test_a_snapshot_stays_within_its_bytes_and_keeps_the_newest_tasks() -> None:
    samples = [(f"task-{number}", 1.0) for number in range(1000)]

    learned = learn_durations(samples, max_bytes=1000)

    assert 0 < len(learned) < 20
    assert "task-0" in learned


def test_no_values_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_never_outside_the_values(values: list[float], fraction: float) -> None:
    assert min(values) - 1e-6 <= quantile(sorted(values), fraction) <= max(values) + 1e-6
