"""Share of the frozen features that can be recovered from the adapted ones, without labels (ours).

Patch tokens of both models are softly whitened, each by its own statistics. Ridge regression from adapted to frozen
tokens is fitted to every second image and scored on the others, and the other way round:

    retention = 1 − Σ ‖w(z) − ẑ‖² / Σ ‖w(z) − mean‖²

It is close to 1 for features that are equal up to a linear map, and 0 for unrelated ones. A useful adaptation discards
some of the frozen features, and a destroyed backbone nearly all of them. Dense structure does not see the latter
(docs/did-it-help.md).

Shapes: N images · P patches of one image · D width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.core.distributed import this_rank_alone
from src.core.errors import UserError
from src.core.float64 import where_float64_is
from src.evaluation.paired_interval import ImageStatistic
from src.evaluation.significance import Array
from src.evaluation.whitening import WhiteningStatistics

MEASURABLE = 0.1  # retention of the frozen features themselves from which that of others is meaningful (our choice)
RIDGE = 0.01  # penalty; whitened tokens have a variance of at most 1 in each direction (our choice)


class Retention(ImageStatistic):
    """Retention with what a bootstrap over images needs.

    Args:
        residuals: Sum of squared residuals of each image, `[N]`.
        totals: Sum of squared distances to the mean of each image, `[N]`.
    """

    def __init__(self, residuals: Array, totals: Array) -> None:
        self._residuals, self._totals = residuals, totals

    @property
    def images(self) -> int:
        """N."""
        return len(self._totals)

    def value(self) -> float:
        """The retention of all images."""
        return float(1 - self._residuals.sum() / self._totals.sum())

    def resampled(self, weights: NDArray[np.int64]) -> Array:
        """Retention of resampled images, `[B]`."""
        drawn: Array = 1 - (weights @ self._residuals) / (weights @ self._totals)
        return drawn


def retention(frozen: Tensor, adapted: Tensor) -> Retention:
    """Compare the patch tokens of two models on the same images.

    Args:
        frozen: Tokens to recover, `[N, P, D]`.
        adapted: Tokens to recover them from, `[N, P, D]`.

    Raises:
        UserError: If there are fewer than two images, the shapes differ, a token is not finite, or all are the same.
    """
    if frozen.ndim != 3 or frozen.shape[:2] != adapted.shape[:2] or len(frozen) < 2:
        raise UserError(
            "retention: expected tokens [N, P, D] of at least 2 images from both models, found shapes "
            f"{list(frozen.shape)} and {list(adapted.shape)}"
        )
    targets, inputs = _whitened(frozen), _whitened(adapted)
    residuals, totals = torch.zeros(len(targets)), torch.zeros(len(targets))
    for fitted, scored in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        x, y = inputs[fitted].flatten(0, 1), targets[fitted].flatten(0, 1)
        x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        gram = (x - x_mean).T @ (x - x_mean) / len(x)
        gram.diagonal().add_(RIDGE)
        weights = torch.linalg.solve(gram, (x - x_mean).T @ (y - y_mean) / len(x))  # [D, D]
        distances = targets[scored] - y_mean
        residual = distances - (inputs[scored] - x_mean) @ weights
        residuals[scored] = residual.square().sum(dim=(1, 2)).float().cpu()
        totals[scored] = distances.square().sum(dim=(1, 2)).float().cpu()
    return Retention(residuals.double().numpy(), totals.double().numpy())


def nothing_left(adapted: float, frozen: float, share: float) -> bool:
    """Return whether a retention is below a share of the frozen features' own.

    False if the frozen features recover too little of themselves to tell, as on a few images that differ.
    """
    return frozen >= MEASURABLE and adapted < share * frozen


def _whitened(tokens: Tensor) -> Tensor:
    """Tokens softly whitened by their own statistics."""
    statistics = WhiteningStatistics(tokens.shape[-1])
    statistics.accumulate(tokens)
    with this_rank_alone():
        whitening = statistics.finish()
    return where_float64_is(whitening.to(tokens.device)(tokens))
