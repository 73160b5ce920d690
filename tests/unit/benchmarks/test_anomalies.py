"""How hack/bench judges detectors of anomalies, and that it replays what the product calls."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from benchmarks import labelled
from benchmarks.anomalies import Tally, judge, measure, merged
from benchmarks.detectors import random_alarms, z_scores
from benchmarks.labelled import LABELS, Series, generated, held_out, read

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def a_series(values: Sequence[float], *windows: tuple[int, int], name: str = "one") -> Series:
    times = [BEGIN + timedelta(minutes=5 * number) for number in range(len(values))]
    return Series(name, times, values, [(times[begin], times[end]) for begin, end in windows])


def tally(series: Series, *alarms: int) -> Tally:
    return judge("some", [series], {series.name: alarms}).tallies[series.name]


def test_alarms_at_most_five_values_apart_are_one():
    assert merged([10, 15, 20, 26, 40]) == [(10, 20), (26, 26), (40, 40)]


def test_an_alarm_is_right_when_it_touches_a_window():
    series = a_series([0.0] * 1000, (300, 400), (600, 700))

    found = tally(series, 298, 303, 500, 650, 690)

    assert found == Tally(hit=2, windows=2, right=3, alarms=4)
    assert found.f1 == pytest.approx(2 * 1 * 0.75 / 1.75)


def test_the_first_share_of_a_series_does_not_count():
    series = a_series([0.0] * 1000, (300, 400))

    assert tally(series, 0, 149) == Tally(0, 1, 0, 0)
    assert tally(series, 150).alarms == 1


def test_nothing_found_is_a_figure_and_no_error():
    assert tally(a_series([0.0] * 10)).f1 == 0


def test_a_z_score_is_that_of_the_values_before():
    values = [math.sin(number) * 1e8 for number in range(200)]

    found = z_scores(a_series(values), window=50)

    before = values[100:150]
    assert found[150] == pytest.approx(abs(values[150] - fmean(before)) / pstdev(before), rel=1e-6)
    assert z_scores(a_series([0.1] * 40 + [0.2]), window=35)[39:] == [0.0, math.inf]


def test_random_alarms_are_as_many_as_asked_and_lie_where_alarms_count():
    series = [a_series([0.0] * 100, name="one"), a_series([0.0] * 200, name="two")]

    found = random_alarms(series, 50, seed=1)

    assert sum(map(len, found.values())) == 50
    assert all(number >= one.begin for one in series for number in found[one.name])


def test_half_of_the_series_are_held_out_and_always_the_same_ones():
    series = [a_series([0.0], name=str(number)) for number in range(10)]

    assert len(held_out(series)) == 5
    assert held_out(series) == held_out(series[::-1])


def test_series_are_read_from_a_folder_or_from_the_one_above(tmp_path: Path):
    folder = tmp_path / labelled.FOLDER
    folder.mkdir()
    (folder / LABELS).write_text(json.dumps({"a.csv": [["2026-01-01 00:00:00.000000", "2026-01-01 00:05:00.000000"]]}))
    (folder / "a.csv").write_text("timestamp,value\n2026-01-01 00:00:00,1.5\n2026-01-01 00:05:00,2\n")

    assert read(folder) == read(tmp_path) == [a_series([1.5, 2.0], (0, 1), name="a.csv")]
    with pytest.raises(RuntimeError, match=LABELS):
        read(tmp_path / "elsewhere")


def test_generated_series_are_the_same_every_time():
    assert generated() == generated()


def test_a_part_tells_every_detector_and_series():
    jump = [*(float(number % 3) for number in range(400)), *[20.0] * 10]
    series = [a_series(jump, (395, 409), name="early"), a_series(jump, (400, 405), name="late")]

    part = measure(series, {"late"}, "anomalies", lambda _: None)

    values = {figure.key: figure.value for figure in part.figures}
    assert values["anomalies.windows"] == values["anomalies.f1"] == values["anomalies.held_out"] == 1
    assert part.details["detectors"].keys() >= {"model", "z-score > 3 over 288 values"}
    assert all(name in part.told for name in ("early", "late", "at random"))
    assert json.loads(json.dumps(part.wire()))["details"]["series"]["late"]["hit"] == 1
