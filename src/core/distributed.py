"""Sums and means over all ranks, so that no objective depends on how the batch was split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

_ALONE = ContextVar("alone", default=False)


@contextmanager
def this_rank_alone() -> Iterator[None]:
    """Within this context the sums are this rank's own, so that one rank can measure while the others go on."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def ranks() -> int:
    """Number of processes that train together."""
    distributes = distributed.is_available() and distributed.is_initialized() and not _ALONE.get()
    return distributed.get_world_size() if distributes else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum over all ranks, without gradient; the tensor itself on one rank."""
    if ranks() == 1:
        return values
    values = values.detach().clone()
    distributed.all_reduce(values)
    return values


def mean_over_ranks(rows: Tensor) -> Tensor:
    """Mean row `[...]` of `[count, ...]`, over the rows of all ranks, without gradient."""
    if ranks() == 1:
        return rows.detach().mean(dim=0)
    count = sum_over_ranks(rows.new_full((), len(rows)))
    return sum_over_ranks(rows.sum(dim=0)) / count


def mean_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights with which a sum is the mean over the true positions of all ranks, all 0 if there are none.

    One over the all-reduced count, times the number of ranks, which DDP's averaging of gradients takes out again: the
    gradient is that of one process with the whole batch.

    Args:
        mask: Bool, any shape.
        dtype: Of the weights.
    """
    count = sum_over_ranks(mask.sum().to(dtype))
    return mask.to(dtype) * (ranks() / count.clamp_min(1))
