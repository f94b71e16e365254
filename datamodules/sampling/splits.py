"""Subsets of a data set: the holdout for choosing settings, and fractions of the labels."""

from __future__ import annotations

import numpy as np

from src.core.errors import UserError


def holdout(size: int) -> list[int]:
    """The fixed fifth of the training images for choosing settings, independent of a run's seed."""
    return sorted(int(i) for i in np.random.default_rng(2509_17816).permutation(size)[: size // 5])


def split_holdout(size: int) -> tuple[list[int], list[int]]:
    """The training images without the held-out fifth, and the fifth.

    Raises:
        UserError: If they are too few to hold any out.
    """
    kept = holdout(size)
    if not kept:
        raise UserError(
            f"evaluate_on: holdout holds out a fifth of the training images: expected 5 or more, found {size}"
        )
    return sorted(set(range(size)) - set(kept)), kept


def nested_fraction(size: int, fraction: float, seed: int) -> list[int]:
    """Sorted indices of a share of `size` samples, at least one. For one seed a smaller share is part of a larger."""
    order = np.random.default_rng([2509_17816, seed]).permutation(size)
    return sorted(int(i) for i in order[: max(1, round(size * fraction))])


def subsample(size: int, count: int) -> list[int]:
    """Sorted indices of a fixed `count` of `size` images; fewer are a subset of more, whatever a run's seed."""
    return sorted(fixed_order(size)[:count])


def fixed_order(size: int) -> list[int]:
    """Indices of `size` images in the order in which `subsample` draws them."""
    return [int(i) for i in np.random.default_rng([2509_17816, 0, 1]).permutation(size)]


def check_max_images(max_images: int | None) -> None:
    """Refuse a limit that leaves no image.

    Raises:
        UserError: If it is below 1.
    """
    if max_images is not None and max_images < 1:
        raise UserError(f"max_images: expected at least 1, or null for all, found {max_images}")
