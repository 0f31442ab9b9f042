"""Plots as SVG for an HTML page: scales, and marks on two axes.

    plot = Plot("AUC by step", linear("step", 0, 100), linear("AUC", 0.5, 1))
    plot.line(steps, values)
    plot.svg()

Series have numbers, which page.py's style sheet turns into colours (classes s0, s1, ...), so a plot
follows the page into the dark. A drawing takes a millisecond: every run writes a dozen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 10, 40
CHARACTER_WIDTH = 6.5
NAMES_WIDTH, NAME_CHARACTERS, ROW_HEIGHT = 112, 16, 20
SERIES = 6  # colours
Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis, from 0 to 1, and the axis's name and ticks (value, text)."""

    name: str
    place: Callable[[float], float]
    ticks: list[tuple[float, str]]


def linear(name: str, low: float, high: float, *, margin: float = 0.0) -> Scale:
    """An even scale; the margin is a share of the range, added on both sides."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    room = (high - low) * margin
    low, high = low - room, high + room
    return _scale(name, low, high, lambda x: x, _even(low, high))


def log(name: str, low: float, high: float) -> Scale:
    """A scale on which equal ratios are equally far."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**k for k in decades for m in (1, 2, 5)]
    ticks = _even(low, high) if high < 5 * low else ticks
    return _scale(name, low, high, lambda x: math.log(max(x, 1e-12)), ticks)


def logit(name: str, low: float, high: float) -> Scale:
    """A scale of probabilities on which equal steps of the log-odds are equally far."""

    def log_odds(p: float) -> float:
        p = min(max(p, 1e-9), 1 - 1e-9)
        return math.log(p / (1 - p))

    small = [1e-5, 1e-4, 1e-3, 0.01, 0.1]
    small += [0.05, 0.2] if log_odds(high) - log_odds(low) < 5 else []
    ticks = [0.5, *small, *(1 - p for p in small)]
    return _scale(name, low, high, log_odds, ticks if high > 1.5 * low else _even(low, high))


def _even(low: float, high: float) -> list[float]:
    """Three to six round numbers within a range."""
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def categories(name: str, names: Sequence[str]) -> Scale:
    """Value k is the middle of the k-th of equal parts; where names would touch, few are shown."""
    count = max(len(names), 1)
    longest = CHARACTER_WIDTH * max(map(len, names), default=0)
    every = math.ceil(longest * count / (WIDTH - LEFT - RIGHT))
    ticks = [(float(k), text) for k, text in enumerate(names) if k % every == 0]
    return Scale(name, lambda k: (k + 0.5) / count, ticks)


def without_ticks(scale: Scale) -> Scale:
    """The same, where numbers would say nothing."""
    return replace(scale, ticks=[])


def number(value: float) -> str:
    """A tick's text: 0.05, 20k, 3M, 1e-05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"


def _scale(
    name: str, low: float, high: float, of: Callable[[float], float], ticks: list[float]
) -> Scale:
    first, span = of(low), of(high) - of(low)

    def place(value: float) -> float:
        return min(max((of(value) - first) / span, 0.0), 1.0)  # beyond the axis: at its end

    slack = 1e-9 * span
    inside = [t for t in ticks if first - slack <= of(t) <= first + span + slack]
    return Scale(name, place, [(t, number(t)) for t in inside])


class Plot:
    """Marks on two axes; every mark clings to the edge where its value is beyond the axis.

    Args:
        label: what is to be seen, for those who do not see.
    """

    def __init__(self, label: str, x: Scale, y: Scale) -> None:
        self.label, self.x, self.y = label, x, y
        self.left, self.height = LEFT, HEIGHT
        self._marks: list[str] = []

    def line(self, xs: Values, ys: Values, series: int = 0) -> None:
        """A line through points; NaN leaves a gap."""
        path, draw = "", "M"
        for x, y in zip(xs, ys, strict=True):
            if math.isnan(y):
                draw = "M"
                continue
            path, draw = f"{path}{draw}{self._at(x, y)}", "L"
        self._marks.append(f'<path class="line s{series}" d="{path}"/>')

    def guide(self, xs: Values, ys: Values) -> None:
        """A dashed line to compare with."""
        path = "L".join(self._at(x, y) for x, y in zip(xs, ys, strict=True))
        self._marks.append(f'<path class="guide" d="M{path}"/>')

    def band(self, xs: Values, lows: Values, highs: Values, series: int = 0) -> None:
        """The area between two lines."""
        there = [self._at(x, high) for x, high in zip(xs, highs, strict=True)]
        back = [self._at(x, low) for x, low in zip(xs, lows, strict=True)]
        path = "L".join([*there, *reversed(back)])
        self._marks.append(f'<path class="band s{series}" d="M{path}Z"/>')

    def points(self, xs: Values, ys: Values, series: int = 0, hollow: Sequence[bool] = ()) -> None:
        """Dots."""
        for x, y, is_hollow in zip(xs, ys, hollow or [False] * len(xs), strict=True):
            if not math.isnan(y):
                cx, cy = self._at(x, y).split(",")
                kind = "hollow" if is_hollow else "dot"
                self._marks.append(f'<circle class="{kind} s{series}" cx="{cx}" cy="{cy}" r="3"/>')

    def intervals(self, xs: Values, ends: Sequence[tuple[float, float]], series: int = 0) -> None:
        """Vertical lines from the low to the high end."""
        for x, (low, high) in zip(xs, ends, strict=True):
            if not math.isnan(low + high):
                path = f"M{self._at(x, low)}L{self._at(x, high)}"
                self._marks.append(f'<path class="line s{series}" d="{path}"/>')

    def area(self, edges: Values, heights: Values, series: int = 0) -> None:
        """A histogram's outline, filled: heights [n] over edges [n + 1]."""
        path = f"M{self._at(edges[0], 0.0)}"
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            path += f"L{self._at(left, height)}L{self._at(right, height)}"
        self._marks.append(f'<path class="area s{series}" d="{path}L{self._at(edges[-1], 0.0)}Z"/>')

    def svg(self) -> str:
        """The drawing, to be put into a page."""
        right, bottom = WIDTH - RIGHT, self.height - BOTTOM
        axes = []
        for value, text in self.x.ticks:
            at = self._at(value, 0.0).split(",")[0]
            axes.append(f'<path class="grid" d="M{at},{TOP}V{bottom}"/>')
            axes.append(f'<text x="{at}" y="{bottom + 15}" text-anchor="middle">{text}</text>')
        axes += self._rows(right)
        middle = (self.left + right) / 2
        axes.append(
            f'<path class="axis" d="M{self.left},{TOP}V{bottom}H{right}"/>'
            f'<text x="{middle:g}" y="{self.height - 6}" text-anchor="middle">'
            f"{escape(self.x.name)}</text>"
        )
        return (
            f'<svg role="img" aria-label="{escape(self.label)}" '
            f'viewBox="0 0 {WIDTH} {self.height}">{"".join(axes)}{"".join(self._marks)}</svg>'
        )

    def _rows(self, right: float) -> list[str]:
        """Grid, ticks and name of the vertical axis."""
        found = []
        for value, text in self.y.ticks:
            y = self._vertical(value)
            found.append(f'<path class="grid" d="M{self.left},{y}H{right}"/>')
            found.append(f'<text x="{self.left - 5}" y="{y}" dy=".32em" {_END}>{text}</text>')
        middle = (TOP + self.height - BOTTOM) / 2
        found.append(
            f'<text transform="translate(10,{middle:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.name)}</text>"
        )
        return found

    def _at(self, x: float, y: float) -> str:
        across = self.left + self.x.place(x) * (WIDTH - RIGHT - self.left)
        return f"{across:.1f},{self._vertical(y)}"

    def _vertical(self, y: float) -> str:
        return f"{TOP + (1 - self.y.place(y)) * (self.height - BOTTOM - TOP):.1f}"


_END = 'text-anchor="end"'


class Forest(Plot):
    """A value with its interval per row: (name, value, low, high), the first on top.

    Args:
        guide: where a vertical dashed line stands.
        hollow: rows whose dot is hollow.
    """

    def __init__(
        self,
        label: str,
        x: Scale,
        rows: Sequence[tuple[str, float, float, float]],
        guide: float,
        hollow: Sequence[bool] = (),
    ) -> None:
        names = [name for name, *_ in rows]
        super().__init__(label, x, Scale("", lambda k: 1 - (k + 0.5) / len(rows), []))
        self.left, self.names = NAMES_WIDTH, names
        self.height = TOP + BOTTOM + ROW_HEIGHT * len(rows)
        self.guide([guide, guide], [-0.5, len(rows) - 0.5])
        for k, (_, value, low, high) in enumerate(rows):
            if not math.isnan(low + high):
                ends = f"M{self._at(low, k)}L{self._at(high, k)}"
                self._marks.append(f'<path class="line s0" d="{ends}"/>')
            if not math.isnan(value):
                self.points([value], [k], 0, hollow[k : k + 1])

    def _rows(self, right: float) -> list[str]:
        found = []
        for k, name in enumerate(self.names):
            short = name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"
            found.append(
                f'<text x="{self.left - 6}" y="{self._vertical(k)}" dy=".32em" {_END}>'
                f"<title>{escape(name)}</title>{escape(short)}</text>"
            )
        return found
