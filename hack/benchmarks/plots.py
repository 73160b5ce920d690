"""Plots as SVG, drawn from samples: how samples are spread, how memory grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 50
_COLOURS = ("#1a7f37", "#0969da", "#8c959f")
_FONT = 'font-family="sans-serif" font-size="12"'
_MOST_POINTS = 200
_SHORTEST = 0.1  # ms; a watch may tell of an object before its creator has the answer

Point = tuple[float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """A named line through points."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Axis:
    """Where ticks stand, and what they say."""

    title: str
    ticks: Sequence[float]
    logarithmic: bool = False

    def scale(self, begin: float, end: float) -> Scale:
        """From a value to pixels."""
        place = math.log10 if self.logarithmic else float
        low, high = place(self.ticks[0]), place(self.ticks[-1])
        return lambda value: (
            begin + (end - begin) * (place(min(max(value, self.ticks[0]), self.ticks[-1])) - low) / (high - low)
        )


def spread(title: str, arms: dict[str, Sequence[float]]) -> str:
    """Which share of each arm's samples (ms) is not above a time."""
    highest = max(max(samples) for samples in arms.values())
    lowest = max(_SHORTEST, min(min(samples) for samples in arms.values()))
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    lines = [Line(name, _shares(samples)) for name, samples in arms.items()]
    across = Axis("milliseconds", [10.0**decade for decade in decades], logarithmic=True)
    return draw(title, lines, across, Axis("share of samples", [0, 0.25, 0.5, 0.75, 1]))


def growth(title: str, name: str, across: str, up: str, points: Sequence[Point]) -> str:
    """One value that grows with another."""
    return draw(
        title, [Line(name, points)], Axis(across, _steps(points[-1][0])), Axis(up, _steps(max(y for _, y in points)))
    )


def draw(title: str, lines: Sequence[Line], across: Axis, up: Axis) -> str:
    """The plot."""
    x, y = across.scale(_LEFT, _WIDTH - _RIGHT), up.scale(_HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(title)}</text>',
        *(_tick_across(x(tick), tick) for tick in across.ticks),
        *(_tick_up(y(tick), tick) for tick in up.ticks),
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 10}" text-anchor="end">{escape(across.title)}</text>',
        f'<text x="{_LEFT}" y="{_TOP - 6}">{escape(up.title)}</text>',
    ]
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 12}" y="{_TOP + 20 + 18 * number}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _shares(samples: Sequence[float]) -> list[Point]:
    ordered = sorted(samples)
    step = max(1, len(ordered) // _MOST_POINTS)
    kept = [*range(0, len(ordered), step), len(ordered) - 1]
    return [(ordered[number], (number + 1) / len(ordered)) for number in kept]


def _steps(highest: float) -> list[float]:
    """Round numbers from 0 to at least the highest."""
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def _tick_across(x: float, value: float) -> str:
    low, high = _HEIGHT - _BOTTOM, _TOP
    return (
        f'<line x1="{x:.1f}" y1="{low}" x2="{x:.1f}" y2="{high}" stroke="#d0d7de"/>'
        f'<text x="{x:.1f}" y="{low + 16}" text-anchor="middle">{value:g}</text>'
    )


def _tick_up(y: float, value: float) -> str:
    return (
        f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#d0d7de"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )
