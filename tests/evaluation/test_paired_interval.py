"""Intervals of any score against those of the verdict, and against a naive bootstrap."""

import numpy as np
import pytest

from src.evaluation.paired_interval import MeanIoU, MeanOverPatches, paired_interval
from src.evaluation.significance import judge


def matrices(seed: int, gain: float = 0.0, images: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 40, size=(images, 3, 3))
    counts[:, range(3), range(3)] += rng.integers(50, 150, size=(images, 3)) + int(gain)
    return counts


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_miou_is_that_of_the_verdict(seeds: int) -> None:
    before, after = [matrices(0)], [matrices(1 + seed, 20) for seed in range(seeds)]
    expected = judge(before, after, ["a", "b", "c"]).miou
    found = paired_interval([MeanIoU(m) for m in before], [MeanIoU(m) for m in after])
    assert vars(found) == pytest.approx(vars(expected))


def test_a_mean_over_patches_weighs_images_by_their_patches() -> None:
    statistic = MeanOverPatches(np.array([2.0, 12.0, 0.0]), np.array([1.0, 3.0, 0.0]))
    assert statistic.value() == pytest.approx(14 / 4) and statistic.images == 3
    drawn = statistic.resampled(np.array([[3, 0, 0], [1, 2, 0], [0, 0, 3]]))
    assert drawn[:2] == pytest.approx([2, 26 / 7]) and np.isnan(drawn[2])


def test_a_row_has_the_width_of_its_bootstrap() -> None:
    rng = np.random.default_rng(0)
    counts = np.full(80, 10.0)
    sums = counts * rng.normal(1.0, 0.3, size=80)
    found = paired_interval([MeanOverPatches(0 * sums, counts)], [MeanOverPatches(sums, counts)])
    error = (sums / counts).std(ddof=1) / np.sqrt(80)
    assert found.difference == pytest.approx(sums.sum() / 800)
    assert (found.high - found.low) / 2 == pytest.approx(1.99 * error, rel=0.06)


def test_pairing_takes_out_what_images_share_and_a_relative_change_is_in_per_cent() -> None:
    rng = np.random.default_rng(0)
    counts, hardness = np.full(50, 10.0), rng.uniform(1, 20, size=50)
    before, after = MeanOverPatches(hardness * 10, counts), MeanOverPatches(hardness * 9, counts)
    found = paired_interval([before], [after], relative=True)
    assert (found.difference, found.low, found.high) == pytest.approx((-10, -10, -10), abs=1e-6)
    absolute = paired_interval([before], [after])
    assert absolute.difference == pytest.approx(-hardness.mean() / 10) and absolute.high < 0


def test_rows_that_do_not_pair_are_refused() -> None:
    one, other = MeanIoU(matrices(0)), MeanIoU(matrices(0, images=29))
    with pytest.raises(ValueError, match=r"found \[29, 30\] images"):
        paired_interval([one], [other])
    with pytest.raises(ValueError, match="one of them has none"):
        paired_interval([], [one])
    with pytest.raises(ValueError, match="found 2 of one row and 3 of the other"):
        paired_interval([one, one], [one, one, one])
    with pytest.raises(ValueError, match="none of 2 images"):
        MeanOverPatches(np.zeros(2), np.zeros(2))
