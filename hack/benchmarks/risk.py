"""How well the risk of commits is told: the oldest 80 % of each project are learnt, the newest 20 % judged.

What is judged is what the product calls, once for each project. Every parameter was chosen within the oldest 80 %.
Beside it are a logistic regression on the same features, and the number of lines added alone, as people would guess.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.commits import Project
from benchmarks.figures import SEED, Figure, Part
from benchmarks.tables import aligned
from dawg_orchestrator.learning.commitrisk import RiskModel, probability
from dawg_orchestrator.learning.fitting import Quality, judge, train
from dawg_orchestrator.learning.risksamples import TRAINED, Sample

_RESAMPLES = 1000
_TIMED = 500  # predictions

Scores = Sequence[float]


@dataclass(frozen=True)
class Judged:
    """One project: what each way of telling said of its newest commits, and what happened."""

    name: str
    trained: int
    failed: Sequence[bool]
    scores: dict[str, Scores]
    quality: Quality
    bytes: int
    microseconds: float

    def auc(self, way: str) -> float:
        """Of one way of telling."""
        return float(roc_auc_score(self.failed, self.scores[way]))


MODEL, LOGISTIC, LINES = "model", "logistic regression", "lines added"


def measure(projects: Sequence[Project], key: str, tell: Callable[[str], None]) -> Part:
    """``key`` begins the figures' keys."""
    judged = []
    for project in projects:
        tell(project.name)
        judged.append(_judge(project))
    tell("how sure it is")
    drawn = _bootstrap(judged)
    rows = [_HEADINGS, *(_row(one, drawn[one.name]) for one in judged), _mean_row(judged, drawn)]
    details: dict[str, Any] = {
        "projects": {
            one.name: {
                "trained": one.trained, "judged": len(one.failed), "failed": sum(one.failed),
                "auc": {way: one.auc(way) for way in one.scores}, "interval": _interval(drawn[one.name][MODEL]),
                "brier": one.quality.brier, "calibration_error": one.quality.calibration_error,
                "bytes": one.bytes, "microseconds": one.microseconds,
            }
            for one in judged
        },
        "tables": [rows],
    }  # fmt: skip
    return Part(_figures(key, judged, drawn), told=aligned(rows), details=details, compared_with=LOGISTIC)


def _judge(project: Project) -> Judged:
    first = round(TRAINED * len(project.samples))
    known, unseen = project.samples[:first], project.samples[first:]
    model = train(known)
    failed = [sample.failed for sample in unseen]
    likely = [probability(model, sample.features) for sample in unseen]
    scores = {
        MODEL: likely,
        LOGISTIC: _logistic(known, unseen),
        LINES: [sample.features.la for sample in unseen],
    }
    size = len(model.model_dump_json())
    return Judged(project.name, first, failed, scores, judge(likely, failed), size, _pace(model, unseen))


def _logistic(known: Sequence[Sample], unseen: Sequence[Sample]) -> Scores:
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    regression.fit(_logarithms(known), [sample.failed for sample in known])
    return [float(one) for one in regression.predict_proba(_logarithms(unseen))[:, 1]]


def _logarithms(samples: Sequence[Sample]) -> Any:
    return np.log1p(np.array([sample.features for sample in samples], dtype=float))


def _pace(model: RiskModel, samples: Sequence[Sample]) -> float:
    """Microseconds of a prediction: the median."""
    taken = []
    for sample in samples[:_TIMED]:
        began = time.perf_counter_ns()
        probability(model, sample.features)
        taken.append((time.perf_counter_ns() - began) / 1000)
    return float(np.median(taken))


Drawn = dict[str, list[float]]  # by way of telling: its AUC in each sample drawn anew


def _bootstrap(judged: Sequence[Judged]) -> dict[str, Drawn]:
    """Each project's newest commits are drawn anew; all ways are compared on the same draws."""
    chance = np.random.default_rng(SEED)
    found: dict[str, Drawn] = {}
    for one in judged:
        failed = np.array(one.failed)
        places = {way: np.unique(np.array(of), return_inverse=True)[1] for way, of in one.scores.items()}
        found[one.name] = {way: [] for way in places}
        while len(found[one.name][MODEL]) < _RESAMPLES:
            times = np.bincount(chance.integers(len(failed), size=len(failed)), minlength=len(failed))
            if 0 < times[failed].sum() < len(failed):
                for way, of in places.items():
                    found[one.name][way].append(_auc(of, times * failed, times * ~failed))
    return found


def _auc(places: NDArray[np.int64], failed: NDArray[np.int64], passed: NDArray[np.int64]) -> float:
    """Of commits by the place of their score among all, and how often each was drawn: a sum instead of a sort."""
    failed_at, passed_at = (np.bincount(places, weights=of) for of in (failed, passed))
    before = np.cumsum(passed_at) - passed_at / 2  # one of equal scores counts half
    return float(failed_at @ before / (failed_at.sum() * passed_at.sum()))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered)) - 1]


def _means(drawn: dict[str, Drawn], way: str) -> list[float]:
    return [fmean(values) for values in zip(*(of[way] for of in drawn.values()), strict=True)]


_HEADINGS = (
    "project", "commits learnt", "judged", "of them failed", "AUC (95 %)", "logistic regression", "lines added",
    "Brier", "calibration error", "model", "a prediction",
)  # fmt: skip


def _row(one: Judged, drawn: Drawn) -> tuple[str, ...]:
    return (
        one.name, str(one.trained), str(len(one.failed)), str(sum(one.failed)), _told(one.auc(MODEL), drawn[MODEL]),
        f"{one.auc(LOGISTIC):.3f}", f"{one.auc(LINES):.3f}", f"{one.quality.brier:.3f}",
        f"{one.quality.calibration_error:.3f}", f"{one.bytes / 1024:.0f} KiB", f"{one.microseconds:.0f} µs",
    )  # fmt: skip


def _mean_row(judged: Sequence[Judged], drawn: dict[str, Drawn]) -> tuple[str, ...]:
    means = {way: fmean(one.auc(way) for one in judged) for way in (MODEL, LOGISTIC, LINES)}
    return (
        "mean", "", "", "", _told(means[MODEL], _means(drawn, MODEL)), f"{means[LOGISTIC]:.3f}", f"{means[LINES]:.3f}",
        f"{fmean(one.quality.brier for one in judged):.3f}",
        f"{fmean(one.quality.calibration_error for one in judged):.3f}", "", "",
    )  # fmt: skip


def _told(value: float, drawn: Sequence[float]) -> str:
    low, high = _interval(drawn)
    return f"{value:.4f} ({low:.3f} to {high:.3f})"


def _figures(key: str, judged: Sequence[Judged], drawn: dict[str, Drawn]) -> list[Figure]:
    ours, regression, lines = (fmean(one.auc(way) for one in judged) for way in (MODEL, LOGISTIC, LINES))
    sure = {way: _means(drawn, way) for way in (MODEL, LOGISTIC, LINES)}
    goal = "≥ 0.76" if key == "risk" else ""  # of real ones; how hard generated ones are, is of our making
    return [
        _of_auc(f"{key}.auc", "risk of commits: mean AUC", ours, regression, ours, sure[MODEL], goal),
        _of_auc(f"{key}.above_logistic", "AUC above logistic regression", ours, regression,
                ours - regression, _gaps(sure[MODEL], sure[LOGISTIC]), "> 0"),
        _of_auc(f"{key}.above_lines", "AUC above lines added", ours, lines,
                ours - lines, _gaps(sure[MODEL], sure[LINES]), "> 0"),
        _plain(f"{key}.calibration_error", "calibration error", fmean(one.quality.calibration_error for one in judged)),
        _plain(f"{key}.brier", "Brier score", fmean(one.quality.brier for one in judged)),
        _plain(f"{key}.model_kib", "size of a model, KiB", max(one.bytes for one in judged) / 1024, "≤ 1536", digits=0),
        _plain(f"{key}.prediction_us", "a prediction, µs",
               max(one.microseconds for one in judged), "≤ 5000", digits=0),
    ]  # fmt: skip


def _gaps(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(first, second, strict=True)]


def _of_auc(key: str, name: str, ours: float, theirs: float, value: float, drawn: Sequence[float], goal: str) -> Figure:
    return Figure(key, name, f"{ours:.4f}", f"{theirs:.4f}", value, _told(value, drawn), goal)


def _plain(key: str, name: str, value: float, goal: str = "", digits: int = 3) -> Figure:
    shown = f"{value:.{digits}f}"
    return Figure(key, name, shown, "", value, shown, goal)
