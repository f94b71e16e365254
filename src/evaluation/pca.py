"""Patch features as colours: the first three principal components, in one common basis.

Shapes: B images · D width · h×w patches · n patches of all maps together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from src.core.errors import UserError
from src.core.float64 import where_float64_is


def pca_colours(sets: Sequence[Tensor], quantile: float = 0.02) -> list[Tensor]:
    """Colour several sets of feature maps in a common basis, so that equal colours mean equal features.

    Mean, components and colour range come from all sets together. Each component's sign is fixed: its largest loading
    is positive. Colours run between the `quantile` and `1 − quantile` quantiles of each component, so that a few
    outliers do not use up the range; values beyond are clipped.

    Args:
        sets: Feature maps `[B, D, h, w]`, such as before and after adaptation; B, h, w may differ.
        quantile: Share clipped at either end; 0.02 is our choice.

    Returns:
        RGB in [0, 1], `[B, 3, h, w]`, float32, one per set.

    Raises:
        UserError: If a set is not `[B, D, h, w]` with D ≥ 3, or the sets differ in D.
    """
    shapes = [tuple(maps.shape) for maps in sets]
    if not shapes or any(len(shape) != 4 or shape[1] < 3 or shape[1] != shapes[0][1] for shape in shapes):
        raise UserError(f"pca_colours: expected maps [B, D, h, w] of one D ≥ 3, found {shapes}")
    flat = [where_float64_is(maps).permute(0, 2, 3, 1).flatten(0, 2).double() for maps in sets]  # each [B·h·w, D]
    patches = torch.cat(flat)
    centred = patches - patches.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    basis = vectors[:, -3:].flip(1)  # [D, 3]
    largest = basis.abs().argmax(dim=0, keepdim=True)
    basis = basis * basis.gather(0, largest).sign()
    scores = centred @ basis  # [n, 3]
    low, high = _quantile(scores, quantile), _quantile(scores, 1 - quantile)
    colours = ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).float()
    parts = colours.split([len(part) for part in flat])
    return [
        part.view(batch, height, width, 3).permute(0, 3, 1, 2)
        for part, (batch, _, height, width) in zip(parts, shapes, strict=True)
    ]


def _quantile(scores: Tensor, quantile: float) -> Tensor:
    """Nearest-rank quantile per column (torch.quantile refuses more than 16 million elements)."""
    rank = round(quantile * (len(scores) - 1))
    return scores.sort(dim=0).values[rank]
