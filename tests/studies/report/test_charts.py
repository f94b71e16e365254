"""Charts put their points where the numbers say, and say them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from src.evaluation.significance import Interval
from src.explanation.palette import DARK, LIGHT
from src.studies.report.charts import Bar, Levels, Series, axis_chart, colour, interval_chart, line_chart, svg


def test_curves_are_drawn_seed_by_seed_and_further_seeds_are_faint() -> None:
    curves = [[(0, 2.0), (10, 1.0)], [(0, 1.5), (10, 1.5)]]
    figure = line_chart("Loss", [Series("a", 0, curves)])
    lines = figure.axes[0].lines
    assert [line.get_xydata().tolist() for line in lines] == [[list(point) for point in curve] for curve in curves]
    assert [line.get_alpha() for line in lines] == [1.0, 0.4]
    assert figure.get_label() == "Loss over 10 steps: a from 2.00 to 1.00"


def test_the_frozen_line_lies_at_its_value_and_is_spoken() -> None:
    figure = line_chart("Rank", [Series("a", 0, [[(0, 1.0), (10, 2.0)]])], frozen=3.0)
    frozen = figure.axes[0].lines[0]
    assert np.unique(frozen.get_ydata()).tolist() == [3.0] and frozen.is_dashed()
    low, high = figure.axes[0].get_ylim()
    assert low <= 1.0 and high >= 3.0
    assert "frozen 3.00" in str(figure.get_label())
    assert "frozen" not in str(line_chart("Rank", [Series("a", 0, [[(0, 1.0), (10, 2.0)]])]).get_label())


def test_a_curve_of_one_point_is_a_dot() -> None:
    figure = line_chart("Rank", [Series("a", 2, [[(10, 2.0)], [(10, 1.0)]])])
    assert [(line.get_marker(), line.get_color()) for line in figure.axes[0].lines] == [("o", LIGHT["s2"])] * 2


def test_points_over_an_axis_are_evenly_spaced_and_carry_their_deviation() -> None:
    levels = Levels("10 % of the labels", 7, {0: (50.0, 0.0), 10: (51.0, 0.5), 100: (52.0, 0.0)})
    figure = axis_chart("Result", "images", [0, 10, 100], [levels])
    axes = figure.axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 50], [1, 51], [2, 52]]
    assert axes.lines[0].get_color() == colour(1)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "10", "100"]
    (bars,) = axes.containers
    assert [segment.tolist() for segment in bars.lines[2][0].get_segments()][1] == [[1, 50.5], [1, 51.5]]
    assert "10 % of the labels 50.0 at 0, 51.0 at 10, 52.0 at 100" in str(figure.get_label())


def test_an_interval_lies_where_it_is_and_certainty_has_a_colour() -> None:
    bars = [Bar("up", Interval(2, 1, 3, 0.99), True), Bar("unsure", Interval(-1, -3, 1, 0.3), False)]
    figure = interval_chart("Change", bars)
    zero, up, up_dot, unsure, unsure_dot = figure.axes[0].lines
    assert np.unique(zero.get_xdata()).tolist() == [0.0]
    assert (list(up.get_xdata()), list(unsure.get_xdata())) == ([1, 3], [-3, 1])
    assert (list(up_dot.get_xdata()), list(unsure_dot.get_xdata())) == ([2], [-1])
    assert (up.get_color(), unsure.get_color()) == (LIGHT["up"], LIGHT["flat"])
    assert "unsure −1.0 (−3.0 to +1.0)" in str(figure.get_label())


def test_a_chart_takes_the_colours_of_the_page_and_fetches_nothing() -> None:
    text = svg(line_chart('A "loss" & more', [Series("<a>", 0, [[(0, 2.0), (10, 1.0)]])], frozen=1.5))
    assert "var(--s0)" in text and "var(--soft)" in text
    assert not any(value in text for value in LIGHT.values())
    assert 'aria-label="A &#34;loss&#34; &amp; more over 10 steps: frozen 1.50; &lt;a&gt; from' in text
    assert "url(" not in text and not re.search(r'href="[^#]', text)
    assert svg(line_chart("x", [Series("a", 0, [[(0, 2.0)]])])) == svg(line_chart("x", [Series("a", 0, [[(0, 2.0)]])]))


def test_each_colour_has_its_like_on_dark_paper() -> None:
    assert LIGHT.keys() == DARK.keys()


@pytest.mark.parametrize("number", range(8))
def test_series_beyond_the_palette_begin_it_again(number: int) -> None:
    assert colour(number) == LIGHT[f"s{number % 6}"]
