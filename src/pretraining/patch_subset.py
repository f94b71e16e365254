"""A subset of the patches of each view, and the patches that it meets in others.

Shapes: V views · B images · N patches of a view · M of them · C width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def take(values: Tensor, index: Tensor | None) -> Tensor:
    """Rows of `[..., N, C]` at `[..., M]`; None takes all as they are."""
    return values if index is None else values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))


def put(values: Tensor, index: Tensor | None, count: int) -> Tensor:
    """Rows `[..., M, C]` at their places among `count` others that are zero, the transpose of `take`."""
    if index is None:
        return values
    empty = values.new_zeros(*values.shape[:-2], count, values.shape[-1])
    return empty.scatter_add(-2, index[..., None].expand_as(values), values)


def met_rows(pulls: Tensor, most: int) -> Tensor | None:
    """Rows of flattened pulls `[V, B, N, C]` that are not zero, and others, int64; None for all.

    The same number of each view, so that no step waits for the device to count them.

    Args:
        pulls: Of which at most `most` rows of a view are not zero.
        most: Rows that are given of each view.
    """
    views, images, count = pulls.shape[:3]
    if most >= count:
        return None
    found = (pulls.detach() != 0).any(dim=-1).to(torch.uint8).topk(most, dim=-1, sorted=False).indices
    starts = torch.arange(views * images, device=pulls.device).view(views, images, 1) * count
    return (found + starts).flatten()
