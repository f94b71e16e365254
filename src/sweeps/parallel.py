"""Parallel coordinates as SVG: an axis for each parameter that varies and one for the metric, a line for each trial."""

from collections.abc import Sequence
from html import escape
from math import isfinite, log10
from typing import NamedTuple

from src.sweeps.definition import Sweep
from src.sweeps.results import Row, text, varied

GAP, HEIGHT, MARGIN, TOP, BOTTOM = 170, 340, 90, 44, 30  # pixels
WORST, BEST = (203, 213, 225), (29, 78, 216)  # colours of the lines, on white


class Axis(NamedTuple):
    """One vertical axis."""

    label: str
    places: list[float]  # of each trial, from 0 (bottom) to 1
    ticks: list[tuple[float, str]]


def parallel_coordinates(sweep: Sweep, found: Sequence[Row]) -> str | None:
    """The plot of all trials that have a value, the best drawn last and darkest; None with fewer than two."""
    shown = [row for row in found if row.value is not None and isfinite(row.value)]
    if len(shown) < 2:
        return None
    axes = [axis(_short(name), [row.parameters[name] for row in shown]) for name in varied(shown)]
    axes.append(axis(sweep.metric, [row.value for row in shown]))
    goodness = axes[-1].places if sweep.goal == "maximize" else [1 - place for place in axes[-1].places]
    width = 2 * MARGIN + GAP * (len(axes) - 1)
    parts = [f'<rect width="{width}" height="{HEIGHT}" fill="white"/>']
    for index in sorted(range(len(shown)), key=goodness.__getitem__):
        points = " ".join(f"{MARGIN + GAP * n},{_y(found.places[index])}" for n, found in enumerate(axes))
        red, green, blue = (round(w + (b - w) * goodness[index]) for w, b in zip(WORST, BEST, strict=True))
        dashes = "" if shown[index].state == "done" else ' stroke-dasharray="3 3"'
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="rgb({red},{green},{blue})" stroke-width="1.6"{dashes}>'
            f"<title>trial {shown[index].number}: {escape(text(shown[index].value))}</title></polyline>"
        )
    for n, found_axis in enumerate(axes):
        x = MARGIN + GAP * n
        parts.append(f'<line x1="{x}" x2="{x}" y1="{_y(1)}" y2="{_y(0)}" stroke="#334155"/>')
        parts.append(f'<text x="{x}" y="{TOP - 20}" text-anchor="middle">{escape(found_axis.label)}</text>')
        parts += [
            f'<text x="{x + 6}" y="{_y(place) + 4}" fill="#475569">{escape(label)}</text>'
            for place, label in found_axis.ticks
        ]
    spoken = f"{len(shown)} trials of {sweep.name} over {', '.join(found_axis.label for found_axis in axes)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" role="img" '
        f'aria-label="{escape(spoken, quote=True)}" font-family="sans-serif" font-size="12">{"".join(parts)}</svg>\n'
    )


def axis(label: str, values: Sequence[object]) -> Axis:
    """An axis of numbers (in the logarithm where they span more than a factor of 20), or of any values in order."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        names = sorted({text(value) for value in values})
        return Axis(label, [_share(names.index(text(value)), 0, len(names) - 1) for value in values],
                    [(_share(place, 0, len(names) - 1), name) for place, name in enumerate(names)])  # fmt: skip
    low, high = min(numbers), max(numbers)
    if low > 0 and high / low > 20:
        ends = log10(low), log10(high)
        middle = 10 ** (sum(ends) / 2)
        return Axis(label, [_share(log10(value), *ends) for value in numbers], _ticks(low, middle, high))
    return Axis(label, [_share(value, low, high) for value in numbers], _ticks(low, (low + high) / 2, high))


def _ticks(low: float, middle: float, high: float) -> list[tuple[float, str]]:
    if low == high:
        return [(0.5, f"{low:.3g}")]
    return [(0.0, f"{low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{high:.3g}")]


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high == low else (value - low) / (high - low)


def _y(place: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place, 1)


def _short(name: str) -> str:
    """The end of a dotted key that fits over its axis; what wraps classes says nothing."""
    parts = [part for part in name.split(".") if part != "init_args"]
    return ".".join(parts[-2:]) if len(".".join(parts[-2:])) <= 24 else parts[-1]
