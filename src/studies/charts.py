"""Charts as inline SVG: they take the page's colours, light or dark, and need no library."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from src.evaluation.verdict import Interval, signed
from src.studies.curves import Curve

WIDTH, HEIGHT = 360, 210  # about the width of a telephone's screen, so that text is not scaled down there
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 32


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


def line_chart(title: str, series: Sequence[Series]) -> str:
    """Curves over the steps: a line per row, its seeds behind it as faint lines.

    Args:
        title: for people who cannot see it, too.
        series: at least one with at least one point.
    """
    points = [point for item in series for curve in item.curves for point in curve]
    last = max(step for step, _ in points)
    ticks = nice_ticks(min(value for _, value in points), max(value for _, value in points))
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
    for item in series:
        for number_of_seed, curve in enumerate(item.curves):
            path = " ".join(f"{x},{y}" for x, y in (place(step, value) for step, value in curve))
            faint = "" if number_of_seed == 0 else " faint"
            parts.append(f'<polyline class="line s{item.colour}{faint}" points="{path}"/>')
        ends.append(f"{item.label} from {item.curves[0][0][1]:.2f} to {item.curves[0][-1][1]:.2f}")
    return svg(WIDTH, HEIGHT, f"{title} over {last} steps: {'; '.join(ends)}", parts)


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
    """A label that fits beside its bar."""
    return label if len(label) <= limit else label[: limit - 1].rstrip() + "…"
