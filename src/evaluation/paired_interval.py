"""Bootstrap intervals over images, of any score and of the difference between two rows.

`significance.judge` does this for confusion matrices; here a score only has to be computable for resampled images.
Draws and interval are the same, so all numbers of a verdict are based on the same resampled sets of images.

Shapes: S seeds · N images · C classes · B bootstrap draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.core.errors import UserError
from src.evaluation.significance import POINTS, Array, Interval, interval, overlaps, resampled, scores


class ImageStatistic(ABC):
    """A score over N images that can be recomputed with each image counted any number of times."""

    @property
    @abstractmethod
    def images(self) -> int:
        """N."""

    @abstractmethod
    def value(self) -> float:
        """The score of all images, each counted once."""

    @abstractmethod
    def resampled(self, weights: NDArray[np.int64]) -> Array:
        """Scores `[B]` in which image i counts `weights[b, i]` times; NaN for a draw without anything to score."""


class MeanIoU(ImageStatistic):
    """mIoU in percentage points.

    Args:
        matrices: Confusion matrices `[N, C, C]`.
    """

    def __init__(self, matrices: NDArray[np.int64]) -> None:
        self._counts = overlaps(matrices)  # [N, 2, C]

    @property
    def images(self) -> int:
        """N."""
        return len(self._counts)

    def value(self) -> float:
        """mIoU of the summed matrices."""
        return float(POINTS * scores(self._counts.sum(0))[0])

    def resampled(self, weights: NDArray[np.int64]) -> Array:
        """mIoU of resampled images, `[B]`."""
        drawn: Array = POINTS * scores(resampled(weights, self._counts[None]))[:, 0, 0]
        return drawn


class MeanOverPatches(ImageStatistic):
    """A mean of one number per patch, such as the cross-entropy, over the patches of all images together.

    Args:
        sums: Sum over each image's patches, `[N]`.
        counts: Patches of each image, `[N]`.

    Raises:
        UserError: If no image has a patch.
    """

    def __init__(self, sums: Array, counts: Array) -> None:
        if not counts.sum() > 0:
            raise UserError(f"mean over patches: none of {len(counts)} images has a labelled patch")
        self._sums, self._counts = sums.astype(np.float64), counts.astype(np.float64)

    @property
    def images(self) -> int:
        """N."""
        return len(self._sums)

    def value(self) -> float:
        """The mean."""
        return float(self._sums.sum() / self._counts.sum())

    def resampled(self, weights: NDArray[np.int64]) -> Array:
        """Means of resampled images, `[B]`."""
        with np.errstate(invalid="ignore"):
            drawn: Array = (weights @ self._sums) / (weights @ self._counts)
        return drawn


def paired_interval(
    before: Sequence[ImageStatistic],
    after: Sequence[ImageStatistic],
    relative: bool = False,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Change from one row to another with its interval, by a paired bootstrap over images (see `significance.judge`).

    Args:
        before: One per seed, or a single one for a row without randomness, which is paired with each seed of `after`.
        after: One per seed.
        relative: Return the change in per cent of `before` (cross-entropy) instead of in the unit of the score.
        level: Level of the interval.
        draws: Bootstrap draws B; 2,000 is our choice.
        seed: Random seed of the bootstrap.

    Raises:
        UserError: If a row is empty, the rows differ in their number of images, or the seeds do not pair up.
    """
    weights = _weights([before, after], draws, seed)
    first = list(before) * len(after) if len(before) == 1 else list(before)
    if len(first) != len(after):
        raise UserError(f"an interval pairs seeds, found {len(before)} of one row and {len(after)} of the other")
    changes = [
        (_change(old.value(), new.value(), relative), _change(old.resampled(weights), new.resampled(weights), relative))
        for old, new in zip(first, after, strict=True)
    ]
    observed, drawn = np.array([one for one, _ in changes]), np.stack([many for _, many in changes], axis=1)
    return interval(observed, drawn, after[0].images, level)


def _change(before: Array | float, after: Array | float, relative: bool) -> Array:
    return np.asarray(100 * (after / before - 1) if relative else after - before, dtype=np.float64)


def _weights(rows: Sequence[Sequence[ImageStatistic]], draws: int, seed: int) -> NDArray[np.int64]:
    """Count how often each draw takes each image, `[B, N]`, as in `significance.judge`."""
    if not all(rows):
        raise UserError("an interval needs results of every row, and one of them has none")
    counts = sorted({one.images for row in rows for one in row})
    if len(counts) > 1:
        raise UserError(f"an interval needs the same images in all rows and seeds, found {counts} images")
    (images,) = counts
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
