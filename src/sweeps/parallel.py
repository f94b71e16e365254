"""Parallel coordinates as SVG: an axis for each parameter that varies and one for the metric, a line for each trial."""

from collections.abc import Sequence
from io import StringIO
from math import isfinite, log10
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from src.explanation.palette import LIGHT, SERIES
from src.sweeps.definition import Sweep
from src.sweeps.results import Row, text, varied

GAP, HEIGHT = 1.8, 3.6  # inches between two axes, and of the whole chart


class Axis(NamedTuple):
    """One vertical axis."""

    label: str
    heights: list[float]  # of each trial, from 0 (bottom) to 1
    ticks: list[tuple[float, str]]


def parallel_coordinates(sweep: Sweep, found: Sequence[Row]) -> str | None:
    """Draw all trials that have a value, the best last and darkest; None with fewer than two of them."""
    shown = [row for row in found if row.value is not None and isfinite(row.value)]
    if len(shown) < 2:
        return None
    axes = [axis(_short(name), [row.parameters[name] for row in shown]) for name in varied(shown)]
    axes.append(axis(sweep.metric, [row.value for row in shown]))
    goodness = axes[-1].heights if sweep.goal == "maximize" else [1 - height for height in axes[-1].heights]
    title = f"{len(shown)} trials of {sweep.name} over {', '.join(each.label for each in axes)}"
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": sweep.name, "font.family": "sans-serif"}):
        figure = Figure(figsize=(GAP * len(axes), HEIGHT), layout="constrained")
        panel = figure.subplots()
        shades = LinearSegmentedColormap.from_list("goodness", [LIGHT["line"], SERIES[0]])
        for index in sorted(range(len(shown)), key=goodness.__getitem__):
            heights = [each.heights[index] for each in axes]
            style = "-" if shown[index].state == "done" else "--"
            panel.plot(heights, style, color=shades(goodness[index]), gid=f"trial-{shown[index].number}")
        for place, each in enumerate(axes):
            panel.axvline(place, color=LIGHT["ink"], linewidth=0.8)
            for height, label in each.ticks:
                panel.annotate(label, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=8)
        panel.set_xticks(range(len(axes)), [each.label for each in axes])
        panel.tick_params(length=0, labeltop=True, labelbottom=False)
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        panel.set_xlim(-0.2, len(axes) - 0.4)
        stream = StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title})
    return stream.getvalue()


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


def _short(name: str) -> str:
    """Shorten a dotted key to the end that fits over its axis, without `init_args`."""
    parts = [part for part in name.split(".") if part != "init_args"]
    return ".".join(parts[-2:]) if len(".".join(parts[-2:])) <= 24 else parts[-1]
