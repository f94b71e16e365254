"""The verdict: sums checked by hand, and its interval on simulated studies in which nothing helps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from src.evaluation.significance import critical, interval, judge, overlaps, probability_above_zero, scores, signed
from tests.evaluation.null_studies import coverage, null_rows


def images(*right: int, of: int = 100) -> NDArray[np.int64]:
    """Two-class matrices in which `right` of 100 pixels of each class are right, one per image."""
    return np.asarray([[[hit, of - hit], [of - hit, hit]] for hit in right], dtype=np.int64)


def test_scores_are_those_of_the_summed_matrix_and_leave_absent_classes_out() -> None:
    matrices = np.zeros((2, 3, 3), dtype=np.int64)
    matrices[0, 0, 0], matrices[0, 0, 1], matrices[1, 1, 1] = 6, 2, 4  # class 2 is nowhere
    found = scores(overlaps(matrices).sum(0))
    assert found[:3] == pytest.approx([(6 / 8 + 4 / 6) / 2, 6 / 8, 4 / 6])
    assert np.isnan(found[3])


def test_the_difference_is_the_mean_over_seeds_in_points() -> None:
    before = [images(50, 60), images(50, 60)]
    after = [images(60, 70), images(70, 80)]
    verdict = judge(before, after, ["a", "b"])
    # IoU of one class is h / (2 · 200 − h) with h right of 200 pixels: 110, 130 and 150 here
    expected = 100 * np.mean([130 / 270 - 110 / 290, 150 / 250 - 110 / 290])
    assert verdict.miou.difference == pytest.approx(expected)
    assert verdict.classes["a"].difference == pytest.approx(expected)
    assert (verdict.seeds, verdict.images) == (2, 2)


def test_one_seed_is_never_certain() -> None:
    before, after = images(*[50] * 40), images(*range(70, 90, 1), *range(70, 90, 1))
    verdict = judge([before], [after], ["a", "b"])
    assert verdict.miou.low > 0  # the images alone would leave no doubt
    assert verdict.word == "one seed"
    assert "nothing is certain" in verdict.sentence()


@pytest.mark.parametrize(("gain", "word"), [(15, "helped"), (-15, "harmed"), (0, "inconclusive")])
def test_the_word_follows_the_interval(gain: int, word: str) -> None:
    rng = np.random.default_rng(0)
    before = [images(*rng.integers(50, 60, 50)) for _ in range(3)]
    after = [images(*(rng.integers(50, 60, 50) + gain)) for _ in range(3)]
    verdict = judge(before, after, ["a", "b"])
    assert verdict.word == word
    assert verdict.miou.low <= verdict.miou.difference <= verdict.miou.high
    assert ("−" in verdict.sentence()) == (verdict.miou.low < 0)


def test_seeds_that_disagree_widen_the_interval_beyond_that_of_images() -> None:
    rng = np.random.default_rng(0)
    before = [images(*rng.integers(50, 60, 50))] * 3
    agree = judge(before, [before[0] + 0 * item for item in before], ["a", "b"])
    assert agree.miou.high - agree.miou.low == 0
    after = [images(*np.clip(rng.integers(50, 60, 50) + shift, 0, 100)) for shift in (0, 10, 20)]
    apart = judge(before, after, ["a", "b"])
    deviation = np.std([judge([before[0]], [item], ["a", "b"]).miou.difference for item in after], ddof=1)
    assert apart.miou.difference > 0
    assert not apart.miou.certain  # +0, +7, +15 with t at 2 degrees of freedom
    assert apart.miou.high - apart.miou.difference > 0.9 * stats.t.ppf(0.975, 2) * deviation / np.sqrt(3)


def test_a_row_without_randomness_is_paired_with_each_seed() -> None:
    before, after = images(50, 55, 60), [images(60, 65, 75), images(62, 66, 71)]
    assert judge([before], after, ["a", "b"]) == judge([before, before], after, ["a", "b"])


def test_a_class_that_only_one_row_ever_predicts_is_judged_on_its_own_terms() -> None:
    before = np.zeros((3, 2, 2), dtype=np.int64)
    before[:, 0, 0] = [90, 95, 99]
    verdict = judge([before, before], [before, before], ["a", "never"])
    assert list(verdict.classes) == ["a"]


def test_intervals_of_classes_are_wider_for_their_number() -> None:
    rng = np.random.default_rng(1)
    before, after = null_rows(rng, seeds=3, images=30, seed_effect=0.0)
    few = judge(list(before), list(after), list("abcde"), level=0.95)
    one = judge(list(before), list(after), list("abcde"), level=0.99)  # 1 − 0.05 / 5
    assert few.classes["a"].high - few.classes["a"].low == pytest.approx(one.miou.high - one.miou.low, rel=3)
    same = interval(np.array([1.0, 2.0]), np.random.default_rng(0).normal(size=(500, 2)), 30, 0.95)
    wide = interval(np.array([1.0, 2.0]), np.random.default_rng(0).normal(size=(500, 2)), 30, 0.99)
    assert wide.high > same.high


def test_the_critical_value_is_students_where_one_source_is_all() -> None:
    assert critical(0.95, 1.0, seeds=3, images=100) == pytest.approx(stats.t.ppf(0.975, 2))
    assert critical(0.95, 0.0, seeds=3, images=100) == pytest.approx(stats.t.ppf(0.975, 99))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_probability_belongs_to_the_interval_that_touches_zero(share: float, level: float) -> None:
    ratio = critical(level, share, seeds=3, images=50)
    assert probability_above_zero(ratio, share, 3, 50) == pytest.approx(0.5 + level / 2, abs=1e-6)
    assert probability_above_zero(-ratio, share, 3, 50) == pytest.approx(0.5 - level / 2, abs=1e-6)


def test_other_images_or_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="same images and classes"):
        judge([images(1, 2)], [images(1, 2, 3)], ["a", "b"])
    with pytest.raises(ValueError, match="pairs seeds, found 2 of one row and 3"):
        judge([images(1, 2)] * 2, [images(1, 2)] * 3, ["a", "b"])
    with pytest.raises(ValueError, match="none"):
        judge([], [images(1, 2)], ["a", "b"])
    with pytest.raises(ValueError, match="3 class names for 2 classes"):
        judge([images(1, 2)], [images(1, 2)], ["a", "b", "c"])


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.0, 1.0, 2.0])
def test_the_interval_covers_zero_when_nothing_helps(ratio: float) -> None:
    """`null_studies.py` does this on 1,000 studies each; 200 have a standard error of 1.5 %."""
    assert 0.91 <= coverage(ratio, seeds=3, images=40, studies=200, draws=300) <= 0.99


@pytest.mark.parametrize(
    ("points", "digits", "text"),
    [(2.34, 1, "+2.3"), (-0.04, 1, "0.0"), (0.0, 1, "0.0"), (-0.06, 1, "−0.1"), (-0.04, 2, "−0.04")],
)
def test_what_rounds_to_zero_has_no_sign(points: float, digits: int, text: str) -> None:
    assert signed(points, digits) == text
