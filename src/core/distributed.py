"""Sums and means over all ranks, so that no objective depends on how the batch was split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the true positions of all ranks, 0 if there are none.

    Divides by the all-reduced count and multiplies by the number of ranks, which DDP's averaging of gradients takes
    out again: the gradient is that of one process with the whole batch.

    Args:
        values: Any shape.
        mask: Bool, the same shape.
    """
    count = sum_over_ranks(mask.sum().to(values.dtype))
    return (values * mask).sum() * ranks() / count.clamp_min(1)
