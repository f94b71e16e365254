"""Merging what the ranks of a distributed run hold, keyed by sample index so that nothing counts twice."""

from __future__ import annotations

from typing import TypeVar

from torch import distributed

Value = TypeVar("Value")


def merge_by_index(held: dict[int, Value]) -> dict[int, Value]:
    """Entries of all ranks in one dictionary, in the order of their keys; the same on every rank.

    A distributed sampler may pad the last batch by repeating samples: a repeated index is one entry here.

    Args:
        held: What this rank holds, by index in the data set.
    """
    parts: list[dict[int, Value]] = [held]
    if distributed.is_available() and distributed.is_initialized():
        parts = [{} for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(parts, held)
    merged = {index: value for part in parts for index, value in part.items()}
    return {index: merged[index] for index in sorted(merged)}
