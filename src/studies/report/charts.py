"""Charts as inline SVG: they take the page's colours, light or dark, and need no library."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from src.evaluation.significance import Interval, signed
from src.studies.results.curves import Curve

WIDTH, HEIGHT = 360, 210  # about the width of a telephone's screen, so that text is not scaled down there
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 32
COLOURS = 6  # series colours in the style sheet


class Series(NamedTuple):
    """Curves of one row of the study."""

    label: str
    colour: int  # number of the page's series colour
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


def line_chart(title: str, series: Sequence[Series], frozen: float | None = None) -> str:
    """Curves over the steps: a line per row, its seeds behind it as faint lines.

    Args:
        title: for people who cannot see it, too.
        series: at least one with at least one point.
        frozen: what the frozen backbone has, as a dashed line.
    """
    points = [point for item in series for curve in item.curves for point in curve]
    last = max(step for step, _ in points)
    values = [value for _, value in points] + ([] if frozen is None else [frozen])
    ticks = nice_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (step / max(1, last))
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)
        return round(x, 1), round(y, 1)

    parts = []
    for tick in ticks:
        _, y = place(0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(tick)}</text>')
    foot = HEIGHT - BOTTOM + 17
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x, _ = place(share * last, low)
        parts.append(f'<text class="tick" x="{x}" y="{foot}" text-anchor="{anchor}">{share * last:.0f}</text>')
    parts.append(
        f'<text class="axis" x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 1}" text-anchor="middle">step</text>'
    )
    ends = []
    if frozen is not None:
        _, y = place(0, frozen)
        parts.append(f'<line class="frozen" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        ends.append(f"frozen {frozen:.2f}")
    for item in series:
        for number_of_seed, curve in enumerate(item.curves):
            spots = [place(step, value) for step, value in curve]
            look = f"s{item.colour % COLOURS}{'' if number_of_seed == 0 else ' faint'}"
            if len(spots) == 1:  # a line of one point would not be seen
                parts.append(f'<circle class="point {look}" cx="{spots[0][0]}" cy="{spots[0][1]}" r="4"/>')
            else:
                path = " ".join(f"{x},{y}" for x, y in spots)
                parts.append(f'<polyline class="line {look}" points="{path}"/>')
        ends.append(f"{item.label} from {item.curves[0][0][1]:.2f} to {item.curves[0][-1][1]:.2f}")
    return svg(WIDTH, HEIGHT, f"{title} over {last} steps: {'; '.join(ends)}", parts)


def axis_chart(title: str, axis: str, marks: Sequence[float], series: Sequence[Levels]) -> str:
    """Means with their deviations over a study's axis, whose marks are evenly spaced, as their steps are uneven.

    Args:
        title: for people who cannot see it, too.
        axis: what is counted along it.
        marks: the places on it, ascending, two at least.
        series: at least one, each with a point at one mark at least.
    """
    lows = [mean - std for item in series for mean, std in item.points.values()]
    highs = [mean + std for item in series for mean, std in item.points.values()]
    ticks = nice_ticks(min(lows), max(highs))
    low, high = ticks[0], ticks[-1]

    def across(mark: float) -> float:
        return round(LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * marks.index(mark) / (len(marks) - 1), 1)

    def down(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(tick)}" y2="{down(tick)}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{down(tick) + 4}" text-anchor="end">{number(tick)}</text>')
    for mark in marks:
        place = f'x="{across(mark)}" y="{HEIGHT - BOTTOM + 17}"'
        parts.append(f'<text class="tick" {place} text-anchor="middle">{number(mark)}</text>')
    parts.append(
        f'<text class="axis" x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 1}" text-anchor="middle">'
        f"{escape(axis)}</text>"
    )
    spoken = []
    for item in series:
        points = sorted(item.points.items())
        path = " ".join(f"{across(mark)},{down(mean)}" for mark, (mean, _) in points)
        parts.append(f'<polyline class="line s{item.colour % COLOURS}" points="{path}"/>')
        for mark, (mean, std) in points:
            x, colour = across(mark), item.colour % COLOURS
            reach = f'y1="{down(mean - std)}" y2="{down(mean + std)}"'
            parts.append(f'<line class="line s{colour}" x1="{x}" x2="{x}" {reach}/>')
            parts.append(f'<circle class="point s{colour}" cx="{x}" cy="{down(mean)}" r="4"/>')
        values = ", ".join(f"{mean:.1f} at {number(mark)}" for mark, (mean, _) in points)
        spoken.append(f"{item.label} {values}")
    return svg(WIDTH, HEIGHT, f"{title} over {axis}: {'; '.join(spoken)}", parts)


def interval_chart(title: str, bars: Sequence[Bar]) -> str:
    """Differences with their intervals around a line at zero; certain ones stand out."""
    row, label_width = 26, 124
    height = row * len(bars) + 34
    reach = max(max(abs(bar.interval.low), abs(bar.interval.high)) for bar in bars) or 1.0
    ticks = nice_ticks(min(0, *(bar.interval.low for bar in bars)), max(0, *(bar.interval.high for bar in bars)), 4)
    low, high = (ticks[0], ticks[-1]) if ticks[0] < ticks[-1] else (-reach, reach)

    def place(value: float) -> float:
        return round(label_width + (WIDTH - RIGHT - 8 - label_width) * (value - low) / (high - low), 1)

    parts = []
    for tick in ticks:
        kind = "zero" if abs(tick) < 1e-9 else "grid"
        parts.append(f'<line class="{kind}" x1="{place(tick)}" x2="{place(tick)}" y1="4" y2="{height - 26}"/>')
        parts.append(
            f'<text class="tick" x="{place(tick)}" y="{height - 10}" text-anchor="middle">{signed_number(tick)}</text>'
        )
    spoken = []
    for index, bar in enumerate(bars):
        y = 4 + row * (index + 0.5)
        kind = "sure " + ("up" if bar.interval.difference > 0 else "down") if bar.certain else "unsure"
        span = f'x1="{place(bar.interval.low)}" x2="{place(bar.interval.high)}" y1="{y}" y2="{y}"'
        parts.append(f'<text class="label" x="0" y="{y + 4}">{escape(shortened(bar.label))}</text>')
        parts.append(f'<line class="span {kind}" {span}/>')
        parts.append(f'<circle class="dot {kind}" cx="{place(bar.interval.difference)}" cy="{y}" r="4.5"/>')
        spoken.append(
            f"{bar.label} {signed(bar.interval.difference)} ({signed(bar.interval.low)} to {signed(bar.interval.high)})"
        )
    return svg(WIDTH, height, f"{title}: {'; '.join(spoken)}", parts)


def figure(title: str, chart: str) -> str:
    """A chart on a card."""
    return f'<figure class="card"><figcaption>{escape(title)}</figcaption>{chart}</figure>'


def keys(labels: Sequence[str], frozen: bool = False) -> str:
    """Which colour is which label's, in their order; with a dashed line for the frozen backbone if asked for."""
    lines = [(f"line s{number % COLOURS}", label) for number, label in enumerate(labels)]
    lines += [("frozen", "Frozen backbone")] if frozen else []
    items = "".join(
        f'<li><svg viewBox="0 0 24 8" aria-hidden="true"><line class="{kind}" x1="0" x2="24" y1="4" y2="4"/></svg>'
        f"{escape(label)}</li>"
        for kind, label in lines
    )
    return f'<ul class="keys">{items}</ul>'


def svg(width: int, height: int, spoken: str, parts: list[str]) -> str:
    """An SVG with a text for those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(spoken, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` steps apart."""
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def number(value: float) -> str:
    """As short as it can be."""
    return f"{value:g}".replace("-", "−")


def signed_number(value: float) -> str:
    """As short as it can be, with a sign unless it is zero."""
    return "0" if abs(value) < 1e-9 else f"{value:+g}".replace("-", "−")


def shortened(label: str, limit: int = 19) -> str:
    """A label that fits next to its bar."""
    return label if len(label) <= limit else label[: limit - 1].rstrip() + "…"
