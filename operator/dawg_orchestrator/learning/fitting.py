"""Fits the model of `commitrisk` to a repository's own history, with scikit-learn, which the controller never loads.

    samples in their order ──┬─► oldest 4/5 ──► model ──► judged on the newest 1/5 ──► card
                             └─► all ─────────► model ──► exported, with that card

The model is the average of some boosted forests (J. Friedman, Greedy function approximation, 2001; Stochastic gradient
boosting, 2002), each grown on another half of the samples, in which older ones weigh less. A history is never shuffled:
what is judged is always later than what was learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from dawg_orchestrator.learning.commitfeatures import Features
from dawg_orchestrator.learning.commitrisk import LEAF, MOST_CUTS, Card, RiskModel, calibrated, levels_of
from dawg_orchestrator.learning.risksamples import TRAINED, NoModel, Sample, too_few

LEAST_AUC = 0.55  # on the newest: below it, rules are the better judge
MOST_COMMITS = 50_000  # the newest
GROUPS = 10  # of the calibration error
_FORESTS = 8
_DRAWN = 0.5  # of the samples, for each forest
_HALF_LIFE = 0.5  # of the history: what is older by that weighs half
_LEAST_DRAWN = 50
_SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05, "max_iter": 60, "max_leaf_nodes": 31, "min_samples_leaf": 10, "l2_regularization": 5.0,
    "max_features": 0.3, "early_stopping": False,
}  # fmt: skip
_DIGITS = 12  # of a leaf's value: hundreds of them are added, and the sum is right to nine

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good probabilities are, of commits whose outcome is known. See ``Card``."""

    auc: float
    brier: float
    calibration_error: float


def fit(samples: Sequence[Sample], trained_at: datetime, seed: int = 0) -> RiskModel | NoModel:
    """A model with its card. ``samples`` are oldest first; the same ones and seed always give the same model."""
    samples = samples[-MOST_COMMITS:]
    if (short := too_few(samples)) is not None:
        return NoModel(short)
    matrix, labels = _arrays(samples)
    first = round(TRAINED * len(labels))
    quality = judge(_probabilities(_train(matrix[:first], labels[:first], seed), matrix[first:]), labels[first:])
    if quality.auc < LEAST_AUC:
        return NoModel(
            f"a model told commits that failed from others hardly better than chance: its AUC on the newest"
            f" {len(labels) - first} is {quality.auc:.2f}, and {LEAST_AUC} is needed; more commits may change that"
        )
    baseline = float(roc_auc_score(labels[first:], matrix[first:, Features._fields.index("la")]))
    card = Card(
        trained_at=trained_at, commits=len(labels), failures=int(labels.sum()), measured_on=len(labels) - first,
        auc=round(quality.auc, 4), baseline_auc=round(baseline, 4), brier=round(quality.brier, 4),
        calibration_error=round(quality.calibration_error, 4),
    )  # fmt: skip
    return _train(matrix, labels, seed).model_copy(update={"card": card})


def train(samples: Sequence[Sample], seed: int = 0) -> RiskModel:
    """A model without a card, whatever it may be worth. There must be outcomes of both kinds, early and late."""
    return _train(*_arrays(samples), seed)


def judge(probabilities: Sequence[float], failed: Sequence[bool] | Labels) -> Quality:
    """Compare with what has happened; both must have happened."""
    likely, truth = np.asarray(probabilities, float), np.asarray(failed, float)
    parts = np.array_split(np.argsort(likely, kind="stable"), GROUPS)
    gaps = [abs(float(likely[part].mean() - truth[part].mean())) * len(part) for part in parts if len(part)]
    return Quality(
        auc=float(roc_auc_score(truth, likely)),
        brier=float(np.mean((likely - truth) ** 2)),
        calibration_error=sum(gaps) / len(truth),
    )


def _arrays(samples: Sequence[Sample]) -> tuple[Matrix, Labels]:
    return (
        np.array([sample.features for sample in samples], dtype=float),
        np.array([sample.failed for sample in samples], dtype=int),
    )


def _train(matrix: Matrix, labels: Labels, seed: int) -> RiskModel:
    """The calibration is that of a model of the oldest four fifths, on the rest: on its own samples one is too sure."""
    first = round(TRAINED * len(labels))
    with threadpool_limits(1):  # several threads grow trees this small no faster, and wait for each other
        early = _grow(matrix[:first], labels[:first], seed)
        model = _grow(matrix, labels, seed)
    raw = [early.raw(row) for row in matrix[first:].tolist()]
    slope, offset = _calibrate(raw, labels[first:])
    levels = levels_of([calibrated(one, slope, offset) for one in raw])
    return model.model_copy(update={"slope": slope, "offset": offset, "levels": levels})


def _calibrate(raw: Sequence[float], labels: Labels) -> tuple[float, float]:
    """Slope and offset of a logistic curve (J. Platt, 1999); as it is, when it would turn the order around."""
    if len(set(labels.tolist())) < 2:
        return 1.0, 0.0
    curve = LogisticRegression(C=1e6).fit(np.array(raw)[:, None], labels)
    slope, offset = float(curve.coef_[0, 0]), float(curve.intercept_[0])
    return (slope, offset) if slope > 0 else (1.0, 0.0)


def _grow(matrix: Matrix, labels: Labels, seed: int) -> RiskModel:
    """The average of all forests, not calibrated."""
    cuts = [_cuts(column) for column in matrix.T]
    cells = _cells(matrix, cuts)
    chance = np.random.default_rng(seed)
    weights = 0.5 ** (np.arange(len(labels))[::-1] / (_HALF_LIFE * len(labels)))
    splits: list[int] = []
    leaves: list[float] = []
    start = 0.0
    for number in range(_FORESTS):
        drawn = _draw(labels, chance)
        forest = HistGradientBoostingClassifier(random_state=seed + number, **_SETTINGS)
        forest.fit(cells[drawn], labels[drawn], sample_weight=weights[drawn])
        start += _export(forest, splits, leaves) / _FORESTS
    return RiskModel(
        cuts=cuts, splits=splits, leaves=[round(value / _FORESTS, _DIGITS) for value in leaves], start=start,
        slope=1.0, offset=0.0, usual=[float(value) for value in np.median(matrix, axis=0)], levels=(1.0, 1.0, 1.0),
    )  # fmt: skip


def _draw(labels: Labels, chance: np.random.Generator) -> NDArray[np.int64]:
    """Half of the samples, and of each outcome some, as a forest needs both."""
    drawn = [
        chance.permutation(of)[: max(_LEAST_DRAWN, round(_DRAWN * len(of)))]
        for of in (np.flatnonzero(labels == 0), np.flatnonzero(labels == 1))
    ]
    return np.sort(np.concatenate(drawn))


def _cuts(column: Matrix) -> list[float]:
    """Between which a feature's values are told apart, with few digits: the model must be small."""
    values = np.unique(column)
    if len(values) <= MOST_CUTS:
        between = (values[1:] + values[:-1]) / 2
    else:
        between = np.quantile(column, np.linspace(0, 1, MOST_CUTS + 2)[1:-1])
    return sorted({float(f"{value:.6g}") for value in between})


def _cells(matrix: Matrix, cuts: Sequence[Sequence[float]]) -> Matrix:
    """Between which cuts each value lies, as `RiskModel.raw` finds it."""
    return np.stack(
        [np.searchsorted(np.asarray(of), column) for of, column in zip(cuts, matrix.T, strict=True)], axis=1
    ).astype(float)


def _export(forest: HistGradientBoostingClassifier, splits: list[int], leaves: list[float]) -> float:
    """Append all trees; return what is added to their sum.

    scikit-learn shows these trees nowhere else: a test holds that the export says what the library says.
    """
    for (tree,) in forest._predictors:  # noqa: SLF001
        waiting = [0]
        while waiting:
            node = tree.nodes[waiting.pop()]
            if node["is_leaf"]:
                splits.append(LEAF)
                leaves.append(float(node["value"]))
            else:
                splits.append(int(node["feature_idx"]) * 256 + int(np.floor(node["num_threshold"])))
                waiting += [int(node["right"]), int(node["left"])]
    return float(np.ravel(forest._baseline_prediction)[0])  # noqa: SLF001


def _probabilities(model: RiskModel, matrix: Matrix) -> list[float]:
    return [calibrated(model.raw(row), model.slope, model.offset) for row in matrix.tolist()]
