"""Figures of hack/bench: from samples, against ranges, as pictures."""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ET

import pytest

from benchmarks import plots
from benchmarks.figures import Figure, Part, mean_ratio, percentile, ratio
from benchmarks.publish import measured
from benchmarks.ranges import RANGES, out_of_range


def test_a_percentile_is_the_smallest_sample_that_so_many_do_not_exceed() -> None:
    samples = [float(number) for number in range(1, 101)]

    assert [percentile(samples, share) for share in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]


def test_a_ratio_lies_within_its_interval_and_is_the_same_each_time() -> None:
    slow, fast = [float(500 + number) for number in range(40)], [5.0 + number / 100 for number in range(100)]

    found = ratio(slow, fast)

    assert found.low <= found.value <= found.high
    assert found == ratio(slow, fast)


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        pytest.param(50.0, [], id="within"),
        pytest.param(29.0, ["start.p50 is 29.00, at least 30 is expected"], id="too low"),
        pytest.param(99.0, ["start.p50 is 99.00, at most 90 is expected"], id="too high"),
    ],
)
def test_each_figure_out_of_its_range_is_named(value: float, faults: list[str]) -> None:
    assert out_of_range({"start.p50": value}, {"start.p50": {"least": 30, "most": 90}}) == faults


def test_a_figure_without_a_range_is_a_fault() -> None:
    assert out_of_range({"new": 1.0}, {}) == ["new has no range in ranges.toml"]


def test_every_committed_range_bounds_its_figure() -> None:
    ranges = tomllib.loads(RANGES.read_text())

    assert ranges
    assert all(allowed.keys() <= {"least", "most"} and allowed for allowed in ranges.values())


def test_a_ratio_of_means_is_of_samples_that_belong_together() -> None:
    found = mean_ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])

    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_parts_that_are_compared_with_something_else_have_a_table_of_their_own() -> None:
    figure = Figure("key", "wait", "1 s", "4 s", 0.25, "0.25", "≤ 0.5", "1 s", 1.0)
    circumstances = {"command": "hack/bench", "version": "v1", "at": "today", "machine": "m", "kernel": "k"}
    start = {**Part([figure]).wire(), **circumstances, "kubernetes": "v1.37"}
    timing = {**Part([figure], compared_with="fixed times", floor="best starts").wire(), **circumstances}

    written = measured({"start": start, "timing": timing})

    assert "| figure | measured | bare Job | value (95 %) | goal | floor | by floor |\n|---" in written
    assert "| figure | measured | fixed times | value (95 %) | goal | best starts | by best starts |\n|---" in written
    assert written.count("| wait | 1 s | 4 s | 0.25 | ≤ 0.5 | 1 s | 1.00 |") == 2
    assert written.endswith("Linux k, Kubernetes v1.37\n- `hack/bench` of version v1 on today: m, Linux k")


def test_a_plot_is_a_picture_with_a_line_for_each_arm() -> None:
    svg = plots.spread("Starts", {"warm": [-0.2, 7.0, 30.0], "bare <Job>": [400.0, 900.0]})

    root = ET.fromstring(svg)  # noqa: S314 - we have written it ourselves
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}polyline")) == 2
    assert {"Starts", "warm", "bare <Job>"} <= {text.text for text in root.findall(f"{name}text")}
