"""The curve of labelled images: certain where every image agrees, a coin toss where they say nothing."""

import numpy as np
import pytest

from benchmarks.label_curve import change, curve


def counts(shares: np.ndarray) -> np.ndarray:
    """One seed, one class a column: intersections are these shares of unions of 100, `[1, N, 2, C]`."""
    return np.stack([100 * shares, np.full_like(shares, 100)], axis=1)[None]


def test_the_change_is_that_of_the_summed_counts() -> None:
    before, after = counts(np.array([[0.5, 0.2], [0.7, 0.4]])), counts(np.array([[0.6, 0.2], [0.7, 0.2]]))
    assert change(before, after) == pytest.approx(100 * ((0.65 - 0.6) + (0.2 - 0.3)) / 2)


def test_images_that_agree_need_one_label_and_images_that_do_not_need_many() -> None:
    random = np.random.default_rng(0)
    before = random.uniform(0.4, 0.6, (60, 3))
    alike = curve(counts(before), counts(before + 0.05), (1, 10), 200, 0)
    assert alike == {1: 1.0, 10: 1.0}
    noisy = curve(counts(before), counts(before + 0.01 + random.normal(0, 0.1, before.shape)), (1, 40, 60), 500, 0)
    assert list(noisy) == [1, 40]
    assert 0.4 < noisy[1] < noisy[40] <= 1.0
