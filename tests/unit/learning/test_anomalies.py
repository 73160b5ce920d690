from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dawg_orchestrator.learning.anomalies import (
    HIGHEST_SCORE,
    VERSION,
    WARM_UP,
    Finding,
    SeriesState,
    observe,
    restore,
)

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
DAY = 288  # values, one every 5 minutes


def judged(
    values: Iterable[float], state: SeriesState | None = None, begin: datetime = MIDNIGHT
) -> tuple[SeriesState, list[Finding]]:
    findings = []
    for number, value in enumerate(values):
        state, finding = observe(state, begin + timedelta(minutes=5 * number), value, "ms")
        findings.append(finding)
    assert state is not None
    return state, findings


def alarms(findings: Iterable[Finding]) -> list[int]:
    return [number for number, finding in enumerate(findings) if finding.is_anomaly]


def noise(level: float, count: int, seed: int = 1) -> list[float]:
    chance = random.Random(seed)  # noqa: S311 - the same values each time
    return [chance.gauss(level, 3) for _ in range(count)]


def daily(days: int, seed: int = 1) -> list[float]:
    """Busy from 8 to 18 o'clock."""
    chance = random.Random(seed)  # noqa: S311 - the same values each time
    return [chance.gauss(180 if 8 <= number // 12 % 24 < 18 else 100, 2) for number in range(DAY * days)]


def test_a_value_far_from_all_before_is_an_anomaly_and_the_sentence_says_what_was_expected():
    _, findings = judged([*noise(100, 1000), 412])

    assert alarms(findings) == [1000]
    assert findings[-1].score > 2
    assert findings[-1].expected is not None
    low, high = findings[-1].expected
    assert 60 < low < 100 < high < 140
    assert findings[-1].why == f"412 ms, expected {low:.4g} to {high:.4g}"


def test_many_small_deviations_together_are_an_anomaly():
    _, findings = judged([*noise(100, 1000), *noise(110, 12)])

    assert alarms(findings)
    assert "on average of late" in findings[alarms(findings)[0]].why


def test_the_first_values_raise_no_alarm_however_they_jump():
    _, findings = judged([10.0**number if number % 7 == 0 else 0.0 for number in range(WARM_UP)])

    assert alarms(findings) == []
    assert findings[4].why == f"warming up: 5 of {WARM_UP} values"
    assert {finding.expected for finding in findings} == {None}


def test_a_new_level_is_told_for_hours_at_most_and_then_is_normal():
    state, findings = judged([*noise(100, 1000), *noise(160, 2 * DAY)])

    assert min(alarms(findings)) == 1000
    assert max(alarms(findings)) < 1000 + 3 * 12
    assert state.level == pytest.approx(160, abs=10)
    assert alarms(judged([600.0], state)[1]) == [0]


def test_one_glitch_does_not_hide_what_comes_after_it():
    _, findings = judged([*noise(100, 1000), 1e6, *noise(100, DAY, seed=2), 300])

    assert {1000, 1001 + DAY} <= set(alarms(findings))


def test_a_daily_pattern_is_learnt_and_a_day_without_it_is_an_anomaly():
    usual = daily(7)
    idle = [100.0 if value > 140 else value for value in daily(1, seed=2)]

    state, findings = judged([*usual, *daily(1, seed=3)])
    _, on_idle_day = judged(idle, judged(usual)[0])

    assert alarms(findings[2 * DAY :]) == []
    assert alarms(on_idle_day)[0] == 8 * 12
    assert state.by_hour.single.usual < state.by_level.single.usual / 5


def test_hours_are_those_of_utc():
    east = MIDNIGHT.astimezone(datetime.strptime("+0500", "%z").tzinfo)

    assert observe(None, MIDNIGHT, 1.0)[0] == observe(None, east, 1.0)[0]


def test_a_constant_series_is_silent_until_it_changes():
    _, findings = judged([*[5.0] * 500, 5.0 * (1 + 1e-9), 5.1])

    assert alarms(findings) == [501]
    assert findings[501].score == HIGHEST_SCORE
    assert findings[501].why == "5.1 ms, expected 5"


def test_what_was_never_negative_is_not_expected_to_be():
    chance = random.Random(1)  # noqa: S311 - the same values each time
    _, findings = judged([chance.expovariate(1) for _ in range(1000)])

    assert findings[-1].expected is not None
    assert findings[-1].expected[0] == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_usable_number_is_ignored_with_a_reason(value: float):
    state, _ = judged(noise(100, 300))

    after, finding = observe(state, MIDNIGHT, value)

    assert after == state
    assert not finding.is_anomaly
    assert finding.why == f"ignored: {value} is not a number to learn from"
    assert observe(None, MIDNIGHT, value)[0] == SeriesState()


def test_missing_and_irregular_values_change_no_verdict():
    chance = random.Random(4)  # noqa: S311 - the same values each time
    kept = [(number, value) for number, value in enumerate(daily(10)) if chance.random() > 0.4]
    state, raised = None, []
    for number, value in kept:
        time = MIDNIGHT + timedelta(minutes=5 * number, seconds=chance.uniform(0, 240))
        state, finding = observe(state, time, value)
        if finding.is_anomaly and number > 4 * DAY:
            raised.append(number)

    assert raised == []
    assert observe(state, MIDNIGHT + timedelta(days=30), 500.0)[1].is_anomaly


def test_a_series_goes_on_from_its_stored_state_as_if_it_had_not_been_stored():
    values = daily(6)
    state, _ = judged(values[:1500])

    stored = restore(json.loads(json.dumps(state.to_json())))

    assert stored == state
    begin = MIDNIGHT + timedelta(minutes=5 * 1500)
    assert judged(values[1500:], stored, begin) == judged(values[1500:], state, begin)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"version": VERSION + 1}, id="another version"),
        pytest.param({"version": None}, id="no version"),
        pytest.param({"hours": []}, id="no hours"),
        pytest.param({"hour": 24}, id="an hour that no day has"),
        pytest.param({"level": math.nan}, id="a level that is no number"),
        pytest.param({"by_hour": {"single": {"usual": math.inf}}}, id="an infinite deviation"),
        pytest.param({"mood": 1}, id="an unknown field"),
    ],
)
def test_a_state_that_is_not_understood_is_none_so_that_the_series_starts_anew(damage: dict[str, object]):
    state, _ = judged(noise(100, 300))

    stored = restore({**state.to_json(), **damage})

    assert stored is None
    assert observe(stored, MIDNIGHT, 100.0)[1].why.startswith("warming up: 1 of")


@pytest.mark.parametrize("stored", [None, [], "state", 7])
def test_what_is_no_state_at_all_is_none(stored: object):
    assert restore(stored) is None


@settings(max_examples=50)
@given(
    pattern=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    minutes=st.integers(min_value=1, max_value=400),
    repeats=st.integers(min_value=1, max_value=30),
)
def test_any_finite_series_is_judged_and_its_state_stays_small(pattern: list[float], minutes: int, repeats: int):
    state: SeriesState | None = None
    for number, value in enumerate(pattern * repeats):
        state, finding = observe(state, MIDNIGHT + timedelta(minutes=minutes * number), value)
        assert 0 <= finding.score <= HIGHEST_SCORE
        assert finding.is_anomaly == (finding.score > 1)

    assert state is not None
    assert len(json.dumps(state.to_json())) < 2048
    assert restore(state.to_json()) == state
