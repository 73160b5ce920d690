from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.learning.commitfeatures import Features
from dawg_orchestrator.learning.commitrisk import (
    RiskModel,
    calibrated,
    level,
    levels_of,
    probability,
    reasons,
    restore,
)

LA, EXP = Features._fields.index("la"), Features._fields.index("exp")
USUAL = Features(1, 1, 1, 0, la=10, ld=2, lt=100, fix=0, ndev=2, age=3, nuc=4, exp=50, rexp=5, sexp=20)


def split(feature: int, cut: int) -> int:
    return feature * 256 + cut


def a_model(**changes: Any) -> RiskModel:
    """Two trees: more than 20 lines add 1 (more than 100: 3), an author with at most 10 commits adds 0.5."""
    cuts: list[list[float]] = [[] for _ in Features._fields]
    cuts[LA], cuts[EXP] = [20.0, 100.0], [10.0]
    wire = {
        "cuts": cuts,
        "splits": [split(LA, 0), -1, split(LA, 1), -1, -1, split(EXP, 0), -1, -1],
        "leaves": [0.0, 1.0, 3.0, 0.5, 0.0],
        "start": -2.0,
        "slope": 1.0,
        "offset": 0.0,
        "usual": list(USUAL),
        "levels": (0.7, 0.4, 0.2),
    }
    return RiskModel.model_validate(wire | changes)


@pytest.mark.parametrize(
    ("lines", "commits", "expected"),
    [(20, 50, -2.0), (20.5, 50, -1.0), (100, 50, -1.0), (101, 11, 1.0), (101, 10, 1.5), (0, 1, -1.5)],
)
def test_a_value_on_a_cut_lies_below_it_and_the_trees_are_added(lines: float, commits: float, expected: float):
    assert a_model().raw(USUAL._replace(la=lines, exp=commits)) == expected


def test_a_model_survives_json_and_says_the_same():
    model = a_model()

    again = restore(json.loads(model.model_dump_json()))

    assert again == model
    assert again is not None
    assert probability(again, USUAL) == probability(model, USUAL)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"splits": [split(LA, 0), -1]},
        {"splits": [split(LA, 2), -1, -1], "leaves": [0.0, 1.0]},
        {"splits": [split(14, 0), -1, -1], "leaves": [0.0, 1.0]},
        {"splits": [-2]},
        {"leaves": [0.0]},
        {"cuts": []},
        {"slope": -1.0},
        {"start": float("nan")},
        {"levels": (2.0, 0.4, 0.2)},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_model_of_another_version_or_shape_is_none(changes: dict[str, Any]):
    assert restore(a_model().model_dump() | changes) is None


@pytest.mark.parametrize("stored", [None, "model", [], {}])
def test_what_is_no_model_is_none(stored: object):
    assert restore(stored) is None


@given(st.lists(st.floats(allow_nan=False), min_size=14, max_size=14))
def test_a_probability_lies_between_0_and_1_whatever_the_features(values: list[float]):
    assert 0 <= probability(a_model(), Features(*values)) <= 1


@given(st.floats(-1e6, 1e6), st.floats(0.01, 5), st.floats(-3, 3))
def test_calibration_is_the_logistic_function_and_never_overflows(raw: float, slope: float, offset: float):
    found = calibrated(raw, slope, offset)

    assert 0 <= found <= 1
    assert found + calibrated(-raw, slope, -offset) == pytest.approx(1)


def test_levels_compare_with_other_commits():
    model = a_model()

    assert [level(model, likely) for likely in (0.7, 0.69, 0.4, 0.2, 0.19)] == [
        "critical", "high", "high", "medium", "low",
    ]  # fmt: skip


def test_levels_are_shares_of_commits_but_an_unlikely_failure_is_never_critical():
    often = [number / 100 for number in range(100)]

    assert levels_of(often) == (0.95, 0.8, 0.5)
    assert levels_of([one / 100 for one in often]) == (0.5, 0.25, 0.1)


def test_reasons_name_what_is_not_as_usual_the_strongest_first():
    found = reasons(a_model(), USUAL._replace(la=500, ld=0, exp=1, sexp=1))

    assert [reason.name for reason in found] == ["size", "author"]
    assert found[0].told == "500 lines added, 0 deleted: +64 points"
    assert found[1].told == "an author with 1 commit, 1 of them in this part of the code: +9 points"
    assert sum(reason.effect > 0 for reason in found) == 2


def test_a_usual_commit_has_no_reasons_and_a_small_one_has_one_against():
    model = a_model(usual=list(USUAL._replace(la=50)))

    assert reasons(a_model(), USUAL) == []
    assert reasons(model, USUAL)[0].effect < 0
