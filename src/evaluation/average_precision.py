"""Average precision of patch predictions, independent of any decision threshold.

A class a few pixels wide rarely wins the argmax over a patch, so mIoU may fall while the ranking improves
(docs/method.md, section 11).

Shapes: n patches · C classes · N images · K bins · B bootstrap draws.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.core.errors import UserError
from src.evaluation.paired_interval import ImageStatistic
from src.evaluation.significance import POINTS, Array

_BINS = 256


def average_precision(scores: Tensor, shares: Tensor) -> Tensor:
    """Average precision of each class, Σ (R_k − R_{k−1}) P_k over the distinct scores from high to low.

    A patch counts with its share of the class as a positive and with the rest as a negative: scikit-learn's
    `average_precision_score` of each patch twice, with these weights.

    Args:
        scores: `[n, C]`; any monotone function of the class probability, such as its logarithm.
        shares: Shares of the labelled pixels of each patch, `[n, C]`.

    Returns:
        float64 `[C]`, in [0, 1]; NaN for a class that no patch holds.
    """
    results = []
    for score, share in zip(scores.T, shares.double().T, strict=True):
        values, order = score.sort(descending=True)
        last = torch.cat((values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)))  # of equal scores
        positives = share[order].cumsum(0)[last]
        patches = torch.arange(1, len(values) + 1, dtype=torch.float64, device=scores.device)[last]
        gained = positives.diff(prepend=positives.new_zeros(1))
        results.append((gained * positives / patches).sum() / positives[-1])  # 0 / 0 is NaN
    return torch.stack(results)


class AveragePrecision(ImageStatistic):
    """Mean average precision over the classes present, pooled over all images, in percentage points.

    The value is exact. Resampled values come from a histogram per image and class whose bins hold equal shares of the
    class (256 of them), because sorting all patches again for each draw would take minutes; they are only used for the
    width of an interval.

    Args:
        scores: Class probabilities of the patches or their logarithms, `[n, C]`.
        shares: `[n, C]`.
        owners: Position of each patch's image among the N images, int64 `[n]`.
        images: N.

    Raises:
        UserError: If no patch holds any class.
    """

    def __init__(self, scores: Tensor, shares: Tensor, owners: Tensor, images: int) -> None:
        self._images = images
        self.classes = average_precision(scores, shares)
        if bool(self.classes.isnan().all()):
            raise UserError(f"average precision: none of {len(scores)} patches is labelled; there is nothing to rank")
        self._positives: list[Array] = []  # per class that is present: [N, K], bins from high to low scores
        self._patches: list[Array] = []
        for index in (~self.classes.isnan()).nonzero().flatten().tolist():
            bins = _bins(scores[:, index], shares[:, index])
            cell = owners * _BINS + bins
            for held, weight in ((self._positives, shares[:, index].double()), (self._patches, None)):
                sums = torch.bincount(cell, weight, minlength=images * _BINS).double()
                held.append(sums.view(images, _BINS).cpu().numpy())

    @property
    def images(self) -> int:
        """N."""
        return self._images

    def value(self) -> float:
        """Mean over the classes."""
        return float(POINTS * self.classes.nanmean())

    def resampled(self, weights: NDArray[np.int64]) -> Array:
        """Scores `[B]` of resampled images; a class missing in a draw is left out of its mean."""
        counts = weights.astype(np.float64)
        total, present = np.zeros(len(weights)), np.zeros(len(weights))
        for positives, patches in zip(self._positives, self._patches, strict=True):
            gained = counts @ positives  # [B, K]
            found, seen = gained.cumsum(1), (counts @ patches).cumsum(1)
            held = found[:, -1] > 0
            precision = (gained * found / np.maximum(seen, 1)).sum(1) / np.where(held, found[:, -1], 1)
            total += np.where(held, precision, 0)
            present += held
        with np.errstate(invalid="ignore"):
            drawn: Array = POINTS * total / present
        return drawn


def _bins(scores: Tensor, shares: Tensor) -> Tensor:
    """Bin of each patch, int64 `[n]`, 0 for the highest scores; equal scores share a bin, each bin 1/K of the class."""
    values, order = scores.sort(descending=True)
    held = shares.double()[order].cumsum(0)
    bins = (held / held[-1] * _BINS).ceil().long().sub(1).clamp(0, _BINS - 1)
    _, run, lengths = values.unique_consecutive(return_inverse=True, return_counts=True)
    bins = bins[lengths.cumsum(0) - 1][run]
    return torch.empty_like(bins).scatter_(0, order, bins)
