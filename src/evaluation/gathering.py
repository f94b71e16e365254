"""Merging what the ranks of a distributed run hold, keyed by sample index so that nothing counts twice."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, distributed

Value = TypeVar("Value")


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def merge_by_index(held: dict[int, Value]) -> dict[int, Value]:
    """Entries of all ranks in one dictionary, in the order of their keys; the same on every rank.

    A distributed sampler pads the last batch by repeating samples: a repeated index is one entry here.

    Args:
        held: What this rank holds, by index in the data set.
    """
    parts: list[dict[int, Value]] = [held]
    if _distributed():
        parts = [{} for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(parts, held)
    merged = {index: value for part in parts for index, value in part.items()}
    return {index: merged[index] for index in sorted(merged)}


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """A rank's share of `Σ total / Σ count` over all ranks, times the number of ranks.

    DDP averages gradients over ranks; multiplied by their number here, the average is the gradient of the mean over
    everything that all ranks counted, as one process with the whole batch would have it. Zero where nothing counts.

    Args:
        total: Sum over this rank's elements, a scalar with gradient.
        count: Number of this rank's elements, a scalar.
    """
    ranks, everywhere = 1, count.detach().to(torch.float64)
    if _distributed():
        ranks = distributed.get_world_size()
        everywhere = everywhere.clone()
        distributed.all_reduce(everywhere)
    return total * (ranks / everywhere.clamp(min=1)).to(total.dtype)
