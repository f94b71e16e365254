"""Select a subset of each view's patches, and the corresponding patches of other views.

Shapes: V views · B images · N patches of a view · M of them · C width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def take(values: Tensor, index: Tensor | None) -> Tensor:
    """Rows of `[..., N, C]` at `[..., M]`; None for all."""
    return values if index is None else values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))


def put(values: Tensor, index: Tensor | None, count: int) -> Tensor:
    """Rows `[..., M, C]` at their positions among `count` rows of zeros: the transpose of `take`."""
    if index is None:
        return values
    empty = values.new_zeros(*values.shape[:-2], count, values.shape[-1])
    return empty.scatter_add(-2, index[..., None].expand_as(values), values)


def met_rows(pulls: Tensor, most: int) -> Tensor | None:
    """Indices of flattened pulls `[V, B, N, C]` that include all nonzero rows, int64; None for all.

    The same number for each view, so that no step synchronises with the device to count them.

    Args:
        pulls: With at most `most` nonzero rows per view.
        most: Rows per view.
    """
    views, images, count = pulls.shape[:3]
    if most >= count:
        return None
    found = (pulls.detach() != 0).any(dim=-1).to(torch.uint8).topk(most, dim=-1, sorted=False).indices
    starts = torch.arange(views * images, device=pulls.device).view(views, images, 1) * count
    return (found + starts).flatten()
