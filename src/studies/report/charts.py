"""Charts of a report by matplotlib, as SVG that takes the page's colours, light or dark."""

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any, NamedTuple

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.evaluation.significance import Interval, signed
from src.explanation.palette import LIGHT, SERIES
from src.studies.results.curves import Curve

WIDTH, HEIGHT = 360, 210  # points; about the width of a telephone's screen, so that text is not scaled down there
FONT = 12  # points


class Series(NamedTuple):
    """Curves of one row of the study."""

    label: str
    colour: int  # number of the palette's series
    curves: list[Curve]  # one per seed


class Bar(NamedTuple):
    """One interval with its name."""

    label: str
    interval: Interval
    certain: bool


class Levels(NamedTuple):
    """One column of the study over its axis."""

    label: str
    colour: int
    points: dict[float, tuple[float, float]]  # place on the axis → mean and standard deviation over seeds


def line_chart(title: str, series: Sequence[Series], frozen: float | None = None) -> Figure:
    """Draw curves over the steps: a line per row, its further seeds faint.

    Args:
        title: Spoken before the values.
        series: At least one with at least one point.
        frozen: Value of the frozen backbone, a dashed line.
    """
    last = max(step for item in series for curve in item.curves for step, _ in curve)
    spoken = []
    figure, axes = canvas()
    axes.set_xlim(0, max(1, last))
    axes.set_xlabel("step")
    if frozen is not None:
        axes.axhline(frozen, color=LIGHT["soft"], dashes=(4, 3), linewidth=1.5, clip_on=False)
        spoken.append(f"frozen {frozen:.2f}")
    for item in series:
        for number, curve in enumerate(item.curves):
            look: dict[str, Any] = {"color": colour(item.colour), "alpha": 0.4 if number else 1.0, "clip_on": False}
            marker = "o" if len(curve) == 1 else ""  # a line of one point would not be seen
            axes.plot([step for step, _ in curve], [value for _, value in curve], marker=marker, **look)
        spoken.append(f"{item.label} from {item.curves[0][0][1]:.2f} to {item.curves[0][-1][1]:.2f}")
    figure.set_label(f"{title} over {last} steps: {'; '.join(spoken)}")
    return figure


def axis_chart(title: str, axis: str, marks: Sequence[float], series: Sequence[Levels]) -> Figure:
    """Draw means with their deviations over a study's axis, whose marks are evenly spaced, as their steps are uneven.

    Args:
        title: Spoken before the values.
        axis: Name of the axis.
        marks: The places on it, ascending, two at least.
        series: At least one, each with a point at one mark at least.
    """
    figure, axes = canvas()
    axes.set_xticks(range(len(marks)), [f"{mark:g}" for mark in marks])
    axes.set_xlim(-0.1, len(marks) - 0.9)
    axes.set_xlabel(axis)
    spoken = []
    for item in series:
        points = sorted(item.points.items())
        places, means = [marks.index(mark) for mark, _ in points], [mean for _, (mean, _) in points]
        deviations = [std for _, (_, std) in points]
        axes.errorbar(places, means, yerr=deviations, marker="o", color=colour(item.colour), clip_on=False)
        values = ", ".join(f"{mean:.1f} at {mark:g}" for mark, (mean, _) in points)
        spoken.append(f"{item.label} {values}")
    figure.set_label(f"{title} over {axis}: {'; '.join(spoken)}")
    return figure


def interval_chart(title: str, bars: Sequence[Bar]) -> Figure:
    """Draw differences with their intervals around a line at zero; significant ones are coloured."""
    figure, axes = canvas(height=26 * len(bars) + 44)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=LIGHT["line"])
    axes.axvline(0, color=LIGHT["soft"], linewidth=1.2, clip_on=False)
    axes.set_yticks(range(len(bars)), [shortened(bar.label) for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    spoken = []
    for place, bar in enumerate(bars):
        tone = LIGHT["flat" if not bar.certain else "up" if bar.interval.difference > 0 else "down"]
        axes.plot([bar.interval.low, bar.interval.high], [place] * 2, color=tone, linewidth=3, clip_on=False)
        axes.plot([bar.interval.difference], [place], "o", color=tone, markersize=8, clip_on=False)
        low, high = signed(bar.interval.low), signed(bar.interval.high)
        spoken.append(f"{bar.label} {signed(bar.interval.difference)} ({low} to {high})")
    figure.set_label(f"{title}: {'; '.join(spoken)}")
    return figure


def canvas(height: int = HEIGHT) -> tuple[Figure, Axes]:
    """An empty chart in the report's style."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=LIGHT["line"])
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=FONT, labelcolor=LIGHT["soft"])
    axes.xaxis.label.set(fontsize=FONT, color=LIGHT["soft"])
    for direction in (axes.xaxis, axes.yaxis):
        direction.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def svg(figure: Figure) -> Markup:
    """Convert a figure to inline SVG with an alternative text and the page's colours."""
    stream, spoken = StringIO(), str(figure.get_label())
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": spoken, "font.family": "sans-serif"}):
        figure.savefig(
            stream, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Type", "Format"))
        )
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' clip-path="[^"]*"|<clipPath.*?</clipPath>', "", text, flags=re.DOTALL)  # ids of a page are unique
    for name, value in LIGHT.items():
        text = text.replace(value, f"var(--{name})")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    opening = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" aria-label="{escape(spoken)}">'
    return Markup(opening + text[text.index(">") + 1 :])


def colour(number: int) -> str:
    """Colour of a series."""
    return SERIES[number % len(SERIES)]


def shortened(label: str, limit: int = 19) -> str:
    """A label short enough for its bar."""
    return label if len(label) <= limit else label[: limit - 1].rstrip() + "…"
