"""How well anomalies of metrics are found: labelled series are replayed value by value, as they would have come.

Alarms at most five values apart are one, as somebody who is paged would see it. It is right when it touches a labelled
window; a window is hit when an alarm lies in it. F1 is of both shares over all series. The moving z-score has every
advantage: its window and threshold are those that are best in hindsight, on the very series that are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from benchmarks.detectors import model_scores, random_alarms, z_scores
from benchmarks.figures import Figure, Part
from benchmarks.labelled import Series
from benchmarks.tables import Rows, aligned

_APART = 5
_DRAWS = 100
_USUAL_WINDOW, _USUAL_THRESHOLD = 288, 3.0
_WINDOWS = (72, 144, 288, 576, 1152, 2016)
_THRESHOLDS = [2 + step / 2 for step in range(37)]

Alarms = Mapping[str, Sequence[int]]  # by name of the series: the numbers of values
Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Tally:
    """Windows and alarms, of one series or of many."""

    hit: int
    windows: int
    right: int
    alarms: int

    @property
    def recall(self) -> float:
        """The share of windows that were hit."""
        return self.hit / self.windows if self.windows else 0.0

    @property
    def precision(self) -> float:
        """The share of alarms that were right."""
        return self.right / self.alarms if self.alarms else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0

    def cells(self) -> tuple[str, str, str]:
        """For a table."""
        right = f"{self.right} of {self.alarms}" + (f" ({self.precision:.2f})" if self.alarms else "")
        return f"{self.hit} of {self.windows}", right, f"{self.f1:.3f}"

    def wire(self) -> dict[str, float]:
        """For JSON."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class Detector:
    """What one detector has found in each series."""

    name: str
    tallies: Mapping[str, Tally]

    def over(self, names: Iterable[str]) -> Tally:
        """All of these series as one."""
        found = [self.tallies[name] for name in names]
        return Tally(*(sum(getattr(one, field) for one in found) for field in ("hit", "windows", "right", "alarms")))


def measure(series: Sequence[Series], hidden: Collection[str], key: str, tell: Callable[[str], None]) -> Part:
    """``hidden`` are the series on which no parameter was chosen; ``key`` begins the figures' keys."""
    tell("the model")
    model = _by_scores("model", series, {one.name: model_scores(one) for one in series}, 1.0)
    usual, best = _moving(series, tell)
    names = [one.name for one in series]
    halves = {"all": names}
    if hidden:
        halves |= {"chosen on": [name for name in names if name not in hidden], "held out": sorted(hidden)}
    chance = [
        judge("random", series, random_alarms(series, model.over(names).alarms, seed)).over(names).f1
        for seed in range(_DRAWS)
    ]
    shown = [_of_detectors([model, usual, best], halves, fmean(chance)), _of_series(model, hidden)]
    details = {
        "series": {name: tally.wire() for name, tally in model.tallies.items()},
        "detectors": {
            detector.name: {half: detector.over(within).wire() for half, within in halves.items()}
            for detector in (model, usual, best)
        },
        "random_f1": fmean(chance),
        "tables": shown,
    }
    told = "\n\n".join(aligned(table) for table in shown)
    found = _figures(key, model, best, halves)
    return Part(found, {"random_f1": chance}, told=told, details=details, compared_with="best z-score")


def judge(name: str, series: Sequence[Series], alarms: Alarms) -> Detector:
    """Of alarms by the numbers of their values, ascending."""
    return Detector(name, {one.name: _tally(one, alarms[one.name]) for one in series})


def _tally(series: Series, alarms: Sequence[int]) -> Tally:
    counted = [number for number in alarms if number >= series.begin]
    times = series.times
    right = [
        any(times[last] >= begin and times[first] <= end for begin, end in series.windows)
        for first, last in merged(counted)
    ]
    hit = [any(begin <= times[number] <= end for number in counted) for begin, end in series.windows]
    return Tally(sum(hit), len(hit), sum(right), len(right))


def merged(alarms: Iterable[int]) -> list[tuple[int, int]]:
    """First and last value of each alarm, where those close together are one."""
    found: list[tuple[int, int]] = []
    for number in alarms:
        if found and number - found[-1][1] <= _APART:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def _by_scores(name: str, series: Sequence[Series], scores: Scores, threshold: float) -> Detector:
    alarms = {one: [number for number, score in enumerate(of) if score > threshold] for one, of in scores.items()}
    return judge(name, series, alarms)


def _moving(series: Sequence[Series], tell: Callable[[str], None]) -> tuple[Detector, Detector]:
    """The moving z-score as it usually is, and as it is best for these series."""
    usual: Detector | None = None
    swept = []
    for window in _WINDOWS:
        tell(f"z-score over {window} values")
        scores = {one.name: z_scores(one, window) for one in series}
        if window == _USUAL_WINDOW:
            usual = _by_scores(_named(window, _USUAL_THRESHOLD), series, scores, _USUAL_THRESHOLD)
        swept += [_by_scores(f"{_named(window, least)}, best", series, scores, least) for least in _THRESHOLDS]
    assert usual is not None  # noqa: S101 - its window is one of those swept
    return usual, max(swept, key=lambda one: one.over(one.tallies).f1)


def _named(window: int, threshold: float) -> str:
    return f"z-score > {threshold:g} over {window} values"


def _figures(key: str, model: Detector, best: Detector, halves: Mapping[str, Sequence[str]]) -> list[Figure]:
    ours, theirs = model.over(halves["all"]), best.over(halves["all"])
    figures = [
        _figure(f"{key}.f1", "anomalies of metrics: F1", ours.f1, theirs.f1, "≥ 0.45"),
        _figure(f"{key}.above_z_score", "F1 above the z-score's", ours.f1 - theirs.f1, 0.0, "> 0"),
        _figure(f"{key}.windows", "windows hit", ours.recall, theirs.recall),
        _figure(f"{key}.precision", "right alarms", ours.precision, theirs.precision),
    ]
    if "held out" in halves:
        unseen, theirs_unseen = model.over(halves["held out"]), best.over(halves["held out"])
        figures.append(_figure(f"{key}.held_out", "F1 of held-out series", unseen.f1, theirs_unseen.f1, "≥ 0.45"))
    return figures


def _figure(key: str, name: str, ours: float, theirs: float, goal: str = "") -> Figure:
    return Figure(key, name, f"{ours:.3f}", f"{theirs:.3f}", ours, f"{ours:.3f}", goal)


def _of_detectors(detectors: Sequence[Detector], halves: Mapping[str, Sequence[str]], chance: float) -> Rows:
    rows = [("detector", "series", "windows hit", "right alarms", "F1")]
    for detector in detectors:
        for half, within in halves.items():
            rows.append((detector.name, f"{half} ({len(within)})", *detector.over(within).cells()))
    return [*rows, ("as many alarms at random", f"all, mean of {_DRAWS} draws", "", "", f"{chance:.3f}")]


def _of_series(model: Detector, hidden: Collection[str]) -> Rows:
    rows = [("series", "", "windows hit", "right alarms")]
    for name, tally in model.tallies.items():
        windows, right, _ = tally.cells()
        rows.append((name, "held out" if name in hidden else "", windows, right))
    return rows
