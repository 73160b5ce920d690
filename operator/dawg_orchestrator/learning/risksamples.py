"""What a model of commits' risk is fitted to, and how much of it there must be; needs no library, unlike the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dawg_orchestrator.learning.commitfeatures import Features

LEAST_COMMITS = 500
LEAST_OF_EACH = 50  # commits that failed, and that did not
LEAST_OF_EACH_JUDGED = 10  # among the newest
TRAINED = 0.8  # the share that is trained on when a model is judged, and within that when it is calibrated
_MORE = 20  # samples that are worth another fit; of many samples, a twentieth of them


@dataclass(frozen=True, slots=True)
class Sample:
    """A commit, and whether its tests failed for a reason of its own."""

    features: Features
    failed: bool


@dataclass(frozen=True, slots=True)
class NoModel:
    """Why there is none; the sentence ends in what would change it."""

    why: str


def too_few(samples: Sequence[Sample]) -> str | None:
    """What is missing for a model; None when there is enough. ``samples`` are oldest first."""
    failures = sum(sample.failed for sample in samples)
    judged = samples[round(TRAINED * len(samples)) :]
    failures_judged = sum(sample.failed for sample in judged)
    if len(samples) < LEAST_COMMITS:
        return f"{len(samples)} commits with a verdict are known, and {LEAST_COMMITS} are needed"
    if failures < LEAST_OF_EACH:
        return f"{failures} of {len(samples)} commits failed, and {LEAST_OF_EACH} are needed"
    if len(samples) - failures < LEAST_OF_EACH:
        return f"{len(samples) - failures} of {len(samples)} commits passed, and {LEAST_OF_EACH} are needed"
    if min(failures_judged, len(judged) - failures_judged) < LEAST_OF_EACH_JUDGED:
        return (
            f"of the newest {len(judged)} commits {failures_judged} failed; a model can be judged when at least"
            f" {LEAST_OF_EACH_JUDGED} of them failed and as many passed"
        )
    return None


def is_due(labelled: int, fitted_to: int) -> bool:
    """Whether to fit anew: enough samples for a model, and enough more than there were the last time."""
    return labelled >= LEAST_COMMITS and labelled - fitted_to >= max(_MORE, fitted_to // 20)
