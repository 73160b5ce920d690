"""Which values of a metric are out of the ordinary: one small model per series, carried from run to run as JSON.

A value is expected to be near the level of the last day, or near what its hour of the day has had before, whichever has
been closer to the truth. It is an anomaly when it strays clearly farther than anything in the last weeks has strayed;
the average of about the last hour is judged alike, so that many small deviations count, too. In a series without change
the n-th value is a record with probability 1/n (A. Renyi, On the extreme elements of observations, 1962), so alarms
become rare by themselves, without a threshold for each metric and whatever the distribution of its values.

The library `river` is alive and was considered. Its detectors are kept as pickles, most give a score without a range,
and NumPy and SciPy come along: 55 MB to download into the agent's image for what is a page of arithmetic here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

VERSION = 1  # of the state; to be raised whenever a state would mean something else
WARM_UP = 150  # values before the first alarm: half a day at one every 5 minutes
HIGHEST_SCORE = 100.0

_DAY = 288  # values that make the level: a day at one every 5 minutes
_HOUR = 12  # values
_RECENT = (_HOUR + 1) / 2  # the share of the newest value in the recent average is one by this
_FADE = 0.5 ** (1 / 4032)  # of the farthest deviation at each value: half is forgotten in two weeks
_CLEARLY = 1.25  # times the farthest deviation
_FAR = 8.0  # times the usual deviation; about 6 standard deviations of normal noise
_COUNTED = 3.0  # times the limit: what of a deviation is learnt at once, so that one glitch does not spoil the model
_DAYS_KNOWN = 2  # of an hour, before it is used
_NEW_DAY = 0.3  # share of the newest day in what is known of an hour
_CLOSER = 0.7  # of the level's usual deviation: how good hours must be to be preferred
_RESOLUTION = 1e-6  # of a value: less is rounding, not change
_LARGEST = 1e100  # beyond it, differences could overflow


@dataclass(frozen=True, slots=True)
class Reach:
    """How far something has strayed from what was expected of it."""

    above: float = 0.0  # the farthest, fading
    below: float = 0.0
    new_above: float = 0.0  # the farthest of the hour under way: what climbs step by step must not hide itself
    new_below: float = 0.0
    usual: float = 0.0

    def limit(self, upwards: bool) -> float:
        """The deviation that is not surprising yet."""
        return max(_CLEARLY * (self.above if upwards else self.below), _FAR * self.usual)

    def after(self, deviation: float, weight: float, hour_ends: bool) -> Reach:
        """With one more deviation; ``weight`` is its share in what is usual."""
        new_above, new_below = max(self.new_above, deviation), max(self.new_below, -deviation)
        above, below = self.above * _FADE, self.below * _FADE
        usual = self.usual + weight * (abs(deviation) - self.usual)
        if hour_ends:
            return Reach(max(above, new_above), max(below, new_below), usual=usual)
        return Reach(above, below, new_above, new_below, usual)


@dataclass(frozen=True, slots=True)
class Track:
    """How one way of expecting values has fared."""

    count: Annotated[int, Field(ge=0)] = 0
    recent: float = 0.0  # deviation, on average of about the last hour
    single: Reach = Reach()
    average: Reach = Reach()

    @property
    def is_warm(self) -> bool:
        """Whether enough is known to be surprised."""
        return self.count >= WARM_UP


class Hour(NamedTuple):
    """What an hour of the day (UTC) usually has."""

    mean: float = 0.0
    days: Annotated[int, Field(ge=0)] = 0

    def after(self, mean: float) -> Hour:
        """With one more day."""
        return Hour(mean if self.days == 0 else self.mean + _NEW_DAY * (mean - self.mean), self.days + 1)


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True, slots=True)
class SeriesState:
    """All that is known of one series; as new, nothing."""

    level: float = 0.0
    by_level: Track = Track()
    hours: Annotated[tuple[Hour, ...], Field(min_length=24, max_length=24)] = (Hour(),) * 24
    offset: float = 0.0  # how far the series now lies from its hours: they learn a new level in days, this in one
    by_hour: Track = Track()
    hour: Annotated[int, Field(ge=0, le=23)] = 0  # that is under way
    hour_mean: float = 0.0
    hour_count: Annotated[int, Field(ge=0)] = 0
    seen_negative: bool = False

    def to_json(self) -> dict[str, Any]:
        """For `restore`; less than 2 KiB as text."""
        return {"version": VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a value means. The score is the deviation by the largest one that would be no anomaly: above 1 it is one."""

    score: float
    is_anomaly: bool
    expected: tuple[float, float] | None  # of what `why` names first; None while nothing is expected
    why: str


class _Step(NamedTuple):
    track: Track
    counted: float  # what of the deviation was learnt
    single_score: float
    average_score: float


_STATES = TypeAdapter(SeriesState)


def restore(stored: object) -> SeriesState | None:
    """The state that ``to_json`` gave; None, to start anew, when it is of another version or damaged."""
    if not isinstance(stored, Mapping) or stored.get("version") != VERSION:
        return None
    try:
        return _STATES.validate_python({name: value for name, value in stored.items() if name != "version"})
    except ValidationError:
        return None


def observe(state: SeriesState | None, time: datetime, value: float, unit: str = "") -> tuple[SeriesState, Finding]:
    """Judge the next value of a series, then learn it. Values may be missing or irregular; ``time`` is aware."""
    known = state or SeriesState()
    if not abs(value) <= _LARGEST:
        return known, Finding(0.0, False, None, f"ignored: {value} is not a number to learn from")
    known = _at_hour(known, time.astimezone(UTC).hour)
    if known.by_level.count == 0:
        known = replace(known, level=value)
    by_hour = _prefers_hours(known)
    track, expected = (known.by_hour, _of_hour(known)) if by_hour else (known.by_level, known.level)
    learnt, step = _learn(replace(known, seen_negative=known.seen_negative or value < 0), value, by_hour)
    return learnt, _told(track, step, expected, value, unit, least=-math.inf if learnt.seen_negative else 0.0)


def _at_hour(state: SeriesState, hour: int) -> SeriesState:
    """When another hour begins, the one before it is learnt."""
    if hour == state.hour:
        return state
    hours = list(state.hours)
    if state.hour_count:
        hours[state.hour] = hours[state.hour].after(state.hour_mean)
    return replace(state, hours=tuple(hours), hour=hour, hour_mean=0.0, hour_count=0)


def _of_hour(state: SeriesState) -> float:
    return state.hours[state.hour].mean + state.offset


def _prefers_hours(state: SeriesState) -> bool:
    closer = state.by_hour.single.usual < _CLOSER * state.by_level.single.usual
    return closer and state.by_hour.is_warm and state.hours[state.hour].days >= _DAYS_KNOWN


def _learn(state: SeriesState, value: float, by_hour: bool) -> tuple[SeriesState, _Step]:
    """Both ways of expecting learn from each value; the step is that of the preferred one."""
    level = _follow(state.by_level, value - state.level, value)
    new_level = state.level + level.counted / min(level.track.count, _DAY)
    learnt, step, sensible = replace(state, level=new_level, by_level=level.track), level, state.level + level.counted
    if state.hours[state.hour].days:
        expected = _of_hour(state)
        hour = _follow(state.by_hour, value - expected, value)
        learnt = replace(learnt, by_hour=hour.track, offset=state.offset + hour.counted / _DAY)
        if by_hour:
            step, sensible = hour, expected + hour.counted
    count = state.hour_count + 1
    mean = state.hour_mean + (sensible - state.hour_mean) / count
    return replace(learnt, hour_mean=mean, hour_count=count), step


def _follow(track: Track, deviation: float, value: float) -> _Step:
    floor = _RESOLUTION * max(abs(value), abs(value - deviation))
    count = track.count + 1
    weight, hour_ends = 1 / min(count, _DAY), count % _HOUR == 0
    counted = _counted(track, track.single, deviation, floor)
    recent = track.recent + (counted - track.recent) / min(count, _RECENT)
    average = _counted(track, track.average, recent, floor)
    return _Step(
        Track(
            count,
            recent,
            single=track.single.after(counted, weight, hour_ends),
            average=track.average.after(average, weight, hour_ends),
        ),
        counted,
        single_score=_score(track.single, deviation, floor),
        average_score=_score(track.average, recent, floor),
    )


def _counted(track: Track, reach: Reach, deviation: float, floor: float) -> float:
    """What is learnt of a deviation: all while little is known, or when a series changes that was constant."""
    most = _COUNTED * reach.limit(deviation > 0)
    return max(-most, min(most, deviation)) if track.is_warm and most > floor else deviation


def _score(reach: Reach, deviation: float, floor: float) -> float:
    if abs(deviation) <= floor:
        return 0.0
    limit = max(reach.limit(deviation > 0), floor)
    return min(abs(deviation) / limit, HIGHEST_SCORE) if limit > 0 else HIGHEST_SCORE


def _told(track: Track, step: _Step, expected: float, value: float, unit: str, least: float) -> Finding:
    """``track`` is as it was before the value."""
    if not track.is_warm:
        return Finding(0.0, False, None, f"warming up: {track.count + 1} of {WARM_UP} values")
    score = max(step.single_score, step.average_score)
    by_average = step.single_score <= 1 < step.average_score
    reach = track.average if by_average else track.single
    low, high = max(expected - reach.limit(upwards=False), least), expected + reach.limit(upwards=True)
    shown = f"{_short(expected + step.track.recent if by_average else value)}{' ' if unit else ''}{unit}"
    lately = " on average of late" if by_average else ""
    wanted = f"{_short(low)} to {_short(high)}" if _short(low) != _short(high) else _short(low)
    return Finding(score, score > 1, (low, high), f"{shown}{lately}, expected {wanted}")


def _short(number: float) -> str:
    """Four digits, but whole numbers as people write them."""
    return f"{number:.0f}" if 1000 <= abs(number) < 1e9 else f"{number + 0.0:.4g}"
