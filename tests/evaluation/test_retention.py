"""Retention against numpy's own regression, for equal, mixed, unrelated and refused features."""

import numpy as np
import pytest
import torch

from src.core.errors import UserError
from src.evaluation.retention import RIDGE, nothing_left, retention


def tokens(seed: int, images: int = 6, patches: int = 50, width: int = 8) -> torch.Tensor:
    """Tokens `[N, P, D]` of unequal directions around an offset."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(images, patches, width, generator=random, dtype=torch.float64)
    return 3 + drawn * torch.linspace(0.5, 2, width)


def whitened(given: torch.Tensor) -> np.ndarray:
    """The soft whitening of docs/method.md, section 11, from the singular values of all tokens."""
    flat = given.flatten(0, 1).numpy()
    centred = flat - flat.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    deviations = singular / np.sqrt(len(flat))
    map_ = directions.T @ np.diag(1 / (deviations + 0.1 * deviations[0])) @ directions
    return (centred @ map_).reshape(given.shape)


def naive(frozen: torch.Tensor, adapted: torch.Tensor) -> float:
    """Least squares with rows that penalise the weights, image by image."""
    targets, inputs = whitened(frozen), whitened(adapted)
    residual = total = 0.0
    for parity in (0, 1):
        x, y = (part[parity::2].reshape(-1, part.shape[-1]) for part in (inputs, targets))
        penalty = np.sqrt(RIDGE * len(x)) * np.eye(x.shape[1])
        rows, answers = np.vstack([x - x.mean(0), penalty]), np.vstack([y - y.mean(0), 0 * penalty])
        weights = np.linalg.lstsq(rows, answers, rcond=None)[0]
        for image in range(1 - parity, len(inputs), 2):
            residual += ((targets[image] - y.mean(0) - (inputs[image] - x.mean(0)) @ weights) ** 2).sum()
            total += ((targets[image] - y.mean(0)) ** 2).sum()
    return 1 - residual / total


def test_it_is_the_regression_of_numpy() -> None:
    frozen = tokens(0)
    adapted = frozen @ torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + tokens(2)
    found = retention(frozen, adapted)
    assert found.value() == pytest.approx(naive(frozen, adapted), abs=1e-5)
    assert 0.1 < found.value() < 0.9
    assert found.resampled(np.ones((1, found.images), dtype=np.int64))[0] == pytest.approx(found.value())
    left_out = np.array([[2, 0, 1, 1, 1, 1]])
    assert found.resampled(left_out)[0] != pytest.approx(found.value())


def test_a_rotation_loses_nothing_and_noise_everything() -> None:
    frozen = tokens(0)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    whole = retention(frozen, frozen).value()
    assert whole > 0.95
    assert retention(frozen, 5 - 2 * frozen @ rotation).value() == pytest.approx(whole, abs=1e-5)
    assert retention(frozen, tokens(3)).value() < 0.05


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2 images"):
        retention(tokens(0)[:1], tokens(0)[:1])
    with pytest.raises(UserError, match=r"found shapes \[6, 50, 8\] and \[6, 40, 8\]"):
        retention(tokens(0), tokens(0, patches=40))
    with pytest.raises(UserError, match="finite"):
        retention(tokens(0), tokens(0) * torch.nan)


@pytest.mark.parametrize(
    ("adapted", "frozen", "left"), [(0.011, 0.6, False), (0.013, 0.6, True), (-0.2, 0.6, False), (-0.5, 0.05, True)]
)
def test_a_retention_counts_only_where_the_frozen_features_recover_themselves(
    adapted: float, frozen: float, left: bool
) -> None:
    assert nothing_left(adapted, frozen, 0.02) != left
