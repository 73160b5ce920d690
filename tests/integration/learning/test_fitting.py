"""Models that scikit-learn has fitted say without it what it says, and only where there is enough to learn from."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.commits import generated
from dawg_orchestrator.learning import fitting
from dawg_orchestrator.learning.commitfeatures import Features
from dawg_orchestrator.learning.commitrisk import RiskModel, level, probability, reasons, restore
from dawg_orchestrator.learning.fitting import fit, judge, train
from dawg_orchestrator.learning.risksamples import LEAST_COMMITS, NoModel, Sample

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(generated()[0].samples[:800])


@pytest.fixture(scope="module")
def model(samples: list[Sample]) -> RiskModel:
    found = fit(samples, NOON)
    assert isinstance(found, RiskModel)
    return found


def relabelled(samples: Sequence[Sample], failed: Sequence[bool]) -> list[Sample]:
    return [Sample(sample.features, one) for sample, one in zip(samples, failed, strict=True)]


def test_the_export_says_what_scikit_learn_says(samples: list[Sample], monkeypatch: pytest.MonkeyPatch):
    forests = []

    class Kept(fitting.HistGradientBoostingClassifier):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            forests.append(self)

        @classmethod
        def _get_param_names(cls) -> list[str]:
            return list(fitting._SETTINGS)

    monkeypatch.setattr(fitting, "HistGradientBoostingClassifier", Kept)
    matrix, labels = fitting._arrays(samples)
    with threadpool_limits(1):
        model = fitting._grow(matrix, labels, seed=3)
    chance = np.random.default_rng(1)
    strange = np.abs(chance.normal(size=(300, matrix.shape[1]))) * chance.choice([0.1, 10, 1e6], size=(300, 1))
    asked = np.concatenate([matrix, strange])

    cells = fitting._cells(asked, model.cuts)
    with threadpool_limits(1):
        expected = np.mean([forest.decision_function(cells) for forest in forests], axis=0)

    assert len(forests) == 8
    np.testing.assert_allclose([model.raw(row) for row in asked.tolist()], expected, rtol=0, atol=1e-9)


def test_a_value_on_a_cut_is_told_apart_as_in_training(model: RiskModel):
    matrix = np.array([[cuts[len(cuts) // 2] if cuts else 0.0 for cuts in model.cuts]])

    cells = fitting._cells(matrix, model.cuts)[0]

    for cell, cuts, value in zip(cells, model.cuts, matrix[0], strict=True):
        assert sum(cut < value for cut in cuts) == cell


def test_the_same_samples_and_seed_give_the_same_model(samples: list[Sample]):
    first, again, other = train(samples[:600]), train(samples[:600]), train(samples[:600], seed=1)

    assert first == again
    assert first.leaves != other.leaves


def test_a_card_is_measured_on_the_newest_commits_by_a_model_of_the_older_ones(samples: list[Sample], model: RiskModel):
    first = round(0.8 * len(samples))
    earlier = train(samples[:first])
    failed = [sample.failed for sample in samples[first:]]
    expected = roc_auc_score(failed, [probability(earlier, sample.features) for sample in samples[first:]])

    assert model.card is not None
    assert (model.card.commits, model.card.measured_on) == (len(samples), len(samples) - first)
    assert model.card.failures == sum(sample.failed for sample in samples)
    assert model.card.trained_at == NOON
    assert model.card.auc == pytest.approx(expected, abs=1e-4)
    assert model.card.auc > model.card.baseline_auc


def test_what_happened_later_changes_nothing_in_how_the_earlier_model_is_judged(samples: list[Sample]):
    """The newest fifth is never learnt from when it is judged: its labels turned around turn the AUC around."""
    first = round(0.8 * len(samples))
    failed = [sample.failed for sample in samples]
    turned = relabelled(samples, failed[:first] + [not one for one in failed[first:]])

    found = fit(turned, NOON)

    assert isinstance(found, NoModel)
    assert "hardly better than chance" in found.why


def test_outcomes_by_chance_give_no_model(samples: list[Sample]):
    chance = random.Random(5)  # noqa: S311 - the same outcomes each time

    found = fit(relabelled(samples, [chance.random() < 0.3 for _ in samples]), NOON)

    assert isinstance(found, NoModel)
    assert "more commits may change that" in found.why


@pytest.mark.parametrize(
    ("count", "failing", "expected"),
    [
        (0, range(0), f"0 commits with a verdict are known, and {LEAST_COMMITS} are needed"),
        (LEAST_COMMITS - 1, range(0, 400, 2), f"499 commits with a verdict are known, and {LEAST_COMMITS} are needed"),
        (600, range(0, 600, 20), "30 of 600 commits failed, and 50 are needed"),
        (600, range(580), "20 of 600 commits passed, and 50 are needed"),
        (600, range(300), "of the newest 120 commits 0 failed"),
    ],
)
def test_too_little_history_gives_no_model_and_says_what_is_missing(count: int, failing: range, expected: str):
    usual = Features(*[1.0] * 14)

    found = fit([Sample(usual, number in failing) for number in range(count)], NOON)

    assert isinstance(found, NoModel)
    assert expected in found.why


def test_a_model_is_small_quick_and_survives_the_way_through_a_snapshot(samples: list[Sample], model: RiskModel):
    text = model.model_dump_json()
    again = restore(json.loads(text))
    assert again is not None
    began = time.process_time()

    found = [probability(again, sample.features) for sample in samples]

    assert (time.process_time() - began) / len(samples) < 0.005
    assert len(text) < 1.5 * 2**20
    assert found == [probability(model, sample.features) for sample in samples]


def test_few_of_the_commits_to_come_are_critical_and_they_fail_most_often(model: RiskModel):
    failed: dict[str, list[bool]] = {"critical": [], "high": [], "medium": [], "low": []}
    for sample in generated()[0].samples[800:1800]:
        failed[level(model, probability(model, sample.features))].append(sample.failed)

    shares = [sum(of) / len(of) for of in failed.values()]
    assert len(failed["critical"]) < 150
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[3]


def test_reasons_name_the_size_of_a_large_commit_of_a_newcomer(samples: list[Sample], model: RiskModel):
    usual = Features(*model.usual)

    found = reasons(model, usual._replace(la=2000.0, exp=1.0, rexp=1.0, sexp=1.0))

    assert found[0].name == "size"
    assert found[0].effect > 0.1
    assert found[0].told.startswith("2000 lines added")


def test_calibration_is_judged_by_groups_of_as_many_commits_each():
    certain = judge([0.0] * 50 + [1.0] * 50, [False] * 50 + [True] * 50)
    timid = judge([0.4] * 50 + [0.6] * 50, [False] * 50 + [True] * 50)

    assert (certain.auc, certain.brier, certain.calibration_error) == (1, 0, 0)
    assert (timid.auc, timid.brier, timid.calibration_error) == pytest.approx((1, 0.16, 0.4))


def test_a_feature_that_never_changes_is_no_cut_and_no_error(samples: list[Sample]):
    same = [Sample(sample.features._replace(fix=1.0, ns=3.0), sample.failed) for sample in samples[:600]]

    model = train(same)

    assert model.cuts[Features._fields.index("fix")] == []
    assert 0 < probability(model, same[0].features) < 1
