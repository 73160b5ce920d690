"""How likely a commit is to break something, by a model that was fitted elsewhere; plain arithmetic, no library.

    Features ──► trees ──► their sum ──► calibration ──► probability ──► level
                   └─────── each group of features as it usually is ──► reasons

The model is an average of boosted trees (see `fitting`), exported so that it fits into a snapshot: a tree is its nodes
in the order of a walk that goes left first, and a split is one number. A model is data of ours that came through
others' hands, so its shape is checked once, when it is read; then nothing needs to be.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from dawg_orchestrator.learning.commitfeatures import Features

VERSION: Literal[1] = 1  # of the exported form, and of what the features mean
MOST_CUTS = 127  # of one feature
MOST_NODES = 200_000
LEAF = -1

Level = Literal["critical", "high", "medium", "low"]
_LEVELS: tuple[Level, ...] = get_args(Level)
_SHARES = (0.95, 0.8, 0.5)  # of a repository's commits lie below critical, high, medium
_LEAST = (0.5, 0.25, 0.1)  # probability of each: where hardly anything fails, the riskiest commit is no critical one
_CODE = 256  # a split is its feature's number times this, and the number of its cut
_COUNT = len(Features._fields)
_CLEAR = 0.01  # of probability: less is no reason

Share = Annotated[float, Field(ge=0, le=1)]
Cuts = Annotated[list[float], Field(max_length=MOST_CUTS)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Card(_Wire):
    """What a model was made of, and how good it was on commits that it had not seen: the newest fifth of them.

    Those figures are of the same fit to the older commits only; afterwards all were used. ``baseline_auc``: of lines
    added alone, on the same commits. ``calibration_error``: by how much probability and share of failures differ, on
    average over ten groups of as many commits each.
    """

    trained_at: AwareDatetime
    commits: int
    failures: int
    measured_on: int
    auc: Share
    baseline_auc: Share
    brier: Share
    calibration_error: Share


class RiskModel(_Wire):
    """A model as it is kept and sent. ``splits``: -1 for a leaf, whose value is the next of ``leaves`` (log-odds)."""

    version: Literal[1] = VERSION
    cuts: Annotated[list[Cuts], Field(min_length=_COUNT, max_length=_COUNT)]
    splits: Annotated[list[int], Field(max_length=MOST_NODES)]
    leaves: list[float]
    start: float
    slope: Annotated[float, Field(ge=0)]  # of the calibration (J. Platt, 1999): it never turns the order around
    offset: float
    usual: Annotated[list[float], Field(min_length=_COUNT, max_length=_COUNT)]  # the medians of features
    levels: tuple[Share, Share, Share]  # the least probability of critical, high, medium
    card: Card | None = None

    _next: array[int] = PrivateAttr()  # of a split: where its right part begins; of a leaf: its value's number
    _roots: list[int] = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """Find each node's place; raise ValueError when the trees are none."""
        self._next, self._roots = _wired(self.splits, [len(cuts) for cuts in self.cuts])
        if sum(code == LEAF for code in self.splits) != len(self.leaves):
            raise ValueError(f"there are {len(self.leaves)} values, which is not the number of leaves")

    def raw(self, features: Sequence[float]) -> float:
        """Log-odds before calibration."""
        cells = [bisect_left(cuts, value) for cuts, value in zip(self.cuts, features, strict=True)]
        splits, following, leaves, total = self.splits, self._next, self.leaves, self.start
        for root in self._roots:
            node = root
            while (code := splits[node]) >= 0:
                node = node + 1 if cells[code >> 8] <= code & 255 else following[node]
            total += leaves[following[node]]
        return total


@dataclass(frozen=True, slots=True)
class Reason:
    """One group of features, and what it does to the probability compared with how that group usually is."""

    name: str
    effect: float  # probability, from -1 to 1
    told: str


def restore(stored: object) -> RiskModel | None:
    """The model that ``model_dump`` gave; None when it is of another version or damaged."""
    try:
        return RiskModel.model_validate(stored)
    except ValidationError:
        return None


def probability(model: RiskModel, features: Features) -> float:
    """That this commit breaks something, from 0 to 1."""
    return calibrated(model.raw(features), model.slope, model.offset)


def calibrated(raw: float, slope: float, offset: float) -> float:
    """The logistic function, for log-odds of any size."""
    odds = slope * raw + offset
    if odds >= 0:
        return 1 / (1 + math.exp(-min(odds, 700.0)))
    return 1 - 1 / (1 + math.exp(max(odds, -700.0)))


def level(model: RiskModel, likely: float) -> Level:
    """Of a probability, compared with other commits of the repository."""
    for name, least in zip(_LEVELS, model.levels, strict=False):
        if likely >= least:
            return name
    return "low"


def levels_of(probabilities: Sequence[float]) -> tuple[float, float, float]:
    """The least probability of critical, high and medium, from those of many commits; not empty."""
    ordered = sorted(probabilities)
    found = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in _SHARES)
    critical, high, medium = (max(least, one) for least, one in zip(_LEAST, found, strict=True))
    return critical, high, medium


def reasons(model: RiskModel, features: Features, most: int = 3) -> list[Reason]:
    """What raises or lowers the probability most, the strongest first.

    A group's effect is the difference that it makes that the group is not as it usually is, all else being as it is.
    Features that tell of the same are one group: alone, each would hide behind the others.
    """
    likely = probability(model, features)
    found = []
    for name, fields in _GROUPS.items():
        usual = {one: model.usual[Features._fields.index(one)] for one in fields}
        effect = likely - probability(model, features._replace(**usual))
        if abs(effect) >= _CLEAR:
            found.append(Reason(name, effect, _told(name, features, effect)))
    return sorted(found, key=lambda reason: -abs(reason.effect))[:most]


_GROUPS = {
    "size": ("la", "ld"),
    "spread": ("ns", "nd", "nf", "entropy"),
    "files": ("lt", "ndev", "age", "nuc"),
    "author": ("exp", "rexp", "sexp"),
    "purpose": ("fix",),
}


def _told(name: str, features: Features, effect: float) -> str:
    count = features._asdict()
    words = {
        "size": f"{_number(count['la'], 'line')} added, {count['ld']:.0f} deleted",
        "spread": f"{_number(count['nf'], 'file')} in {_number(count['nd'], 'directory', 'directories')} changed",
        "files": (
            f"files of {_number(count['lt'], 'line')} that {_number(count['ndev'], 'person', 'people')} changed in"
            f" {_number(count['nuc'], 'commit')}, last {_number(count['age'], 'day')} before"
        ),
        "author": (
            f"an author with {_number(count['exp'], 'commit')}, {count['sexp']:.0f} of them in this part of the code"
        ),
        "purpose": "a fix by its message" if features.fix else "no fix by its message",
    }
    return f"{words[name]}: {effect * 100:+.0f} points"


def _number(count: float, one: str, many: str | None = None) -> str:
    return f"{count:.0f} {one if round(count) == 1 else many or one + 's'}"


def _wired(splits: Sequence[int], cuts: Sequence[int]) -> tuple[array[int], list[int]]:
    """Where each node goes on, and where trees begin; ``cuts``: how many each feature has."""
    following, roots, waiting, leaves = array("l"), [], list[int](), 0
    begins = True
    for place, code in enumerate(splits):
        if begins:
            roots.append(place)
        begins = False
        if code == LEAF:
            following.append(leaves)
            leaves += 1
            if waiting:
                following[waiting.pop()] = place + 1
            else:
                begins = True
        elif 0 <= code < _CODE * len(cuts) and code % _CODE < cuts[code // _CODE]:
            following.append(0)
            waiting.append(place)
        else:
            raise ValueError(f"node {place} splits by {code}, which is no cut of a feature")
    if not begins:
        raise ValueError("the last tree is not complete")
    return following, roots
