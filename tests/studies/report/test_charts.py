"""Charts put their points where the numbers say."""

from __future__ import annotations

import re
from itertools import pairwise
from math import floor, log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.evaluation.significance import Interval
from src.studies.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Bar,
    Levels,
    Series,
    axis_chart,
    interval_chart,
    line_chart,
    nice_ticks,
)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_enclose_the_range_evenly_in_round_steps(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + span - 1e-6 * step
    assert ticks[0] > low - 1.001 * step
    assert ticks[-1] < low + span + 1.001 * step
    assert 2 <= len(ticks) <= 8
    assert all(later - earlier == pytest.approx(step) for earlier, later in pairwise(ticks))
    mantissa = step / 10 ** floor(log10(step * 1.0001))
    assert any(mantissa == pytest.approx(nice, rel=1e-3) for nice in (1, 2, 2.5, 5, 10))


def test_ticks_of_a_flat_line() -> None:
    ticks = nice_ticks(2.0, 2.0)
    assert ticks[0] < 2.0 < ticks[-1]


def test_a_curve_runs_from_corner_to_corner() -> None:
    text = line_chart("Loss", [Series("a", 0, [[(0, 2.0), (10, 1.0)], [(0, 1.5), (10, 1.5)]])])
    lines = re.findall(r'points="([^"]+)"', text)
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in lines[0].split())
    assert (x0, y0) == (LEFT, TOP)
    assert (x1, y1) == (WIDTH - RIGHT, HEIGHT - 32)
    middle = [float(point.split(",")[1]) for point in lines[1].split()]
    assert middle[0] == middle[1] == pytest.approx((y0 + y1) / 2)
    assert text.count("faint") == 1  # the second seed


def test_the_frozen_line_lies_at_its_value_and_is_spoken() -> None:
    text = line_chart("Rank", [Series("a", 0, [[(0, 1.0), (10, 2.0)]])], frozen=3.0)
    y = float(re.findall(r'class="frozen"[^>]*y1="([\d.]+)"', text)[0])
    assert y == TOP  # 3 is the topmost tick
    assert "frozen 3.00" in text
    assert "frozen" not in line_chart("Rank", [Series("a", 0, [[(0, 1.0), (10, 2.0)]])])


def test_a_curve_of_one_point_is_a_dot_on_its_place() -> None:
    text = line_chart("Rank", [Series("a", 2, [[(10, 2.0)], [(10, 1.0)]])], frozen=1.0)
    places = re.findall(r'<circle class="point s2( faint)?" cx="([\d.]+)" cy="([\d.]+)" r="4"/>', text)
    assert [faint for faint, _, _ in places] == ["", " faint"]
    assert float(places[0][1]) == float(places[1][1]) and float(places[0][2]) < float(places[1][2])  # 2 is above 1
    assert "polyline" not in text


def test_points_over_an_axis_are_evenly_spaced_and_carry_their_deviation() -> None:
    levels = Levels("10 % of the labels", 7, {0: (50.0, 0.0), 10: (51.0, 0.5), 100: (52.0, 0.0)})
    text = axis_chart("Result", "images", [0, 10, 100], [levels])
    places = [tuple(map(float, point)) for point in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.11)
    assert (places[0][1], places[2][1]) == (HEIGHT - BOTTOM, TOP)
    low, high = map(float, re.findall(r'<line class="line s1"[^>]*y1="([\d.]+)" y2="([\d.]+)"', text)[1])
    assert low - high == pytest.approx((HEIGHT - BOTTOM - TOP) / 2, abs=0.11)  # 2 × 0.5 of the 2 points shown
    assert "10 % of the labels 50.0 at 0, 51.0 at 10, 52.0 at 100" in text


def test_an_interval_lies_to_its_side_of_zero_and_certainty_shows() -> None:
    bars = [Bar("up", Interval(2, 1, 3, 0.99), True), Bar("unsure", Interval(-1, -3, 1, 0.3), False)]
    text = interval_chart("Change", bars)
    zero = float(re.findall(r'class="zero" x1="([\d.]+)"', text)[0])
    (up_low, up_high), (low, high) = (
        map(float, pair) for pair in re.findall(r'span[^>]*x1="([\d.]+)" x2="([\d.]+)"', text)
    )
    assert zero < up_low < up_high
    assert low < zero < high
    assert 'class="dot sure up"' in text
    assert 'class="dot unsure"' in text
    assert "unsure −1.0 (−3.0 to +1.0)" in text
