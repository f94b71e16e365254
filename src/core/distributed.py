"""Training processes, and sums and means over them, so that results do not depend on how a batch is split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from src.core.errors import UserError

Value = TypeVar("Value")

_ALONE = ContextVar("alone", default=False)


@contextmanager
def this_rank_alone() -> Iterator[None]:
    """Context in which sums are this rank's own, so that one rank can measure while the others continue."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def ranks() -> int:
    """Number of training processes."""
    distributes = distributed.is_available() and distributed.is_initialized() and not _ALONE.get()
    return distributed.get_world_size() if distributes else 1


def process() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) outside of torch.distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def share_of_batch(batch_size: int) -> int:
    """This process's part of a global batch.

    Raises:
        UserError: If the processes cannot share it evenly.
    """
    count = process()[1]
    if batch_size % count:
        raise UserError(
            f"batch_size {batch_size} is that of all {count} processes together: expected a multiple of {count}; set "
            f"data.init_args.batch_size to {max(1, round(batch_size / count)) * count}, or change trainer.devices"
        )
    return batch_size // count


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum over all ranks, without gradient; the tensor itself on one rank."""
    if ranks() == 1:
        return values
    values = values.detach().clone()
    distributed.all_reduce(values)
    return values


def mean_over_ranks(rows: Tensor) -> Tensor:
    """Mean row `[...]` of `[count, ...]` over the rows of all ranks, without gradient."""
    if ranks() == 1:
        return rows.detach().mean(dim=0)
    count = sum_over_ranks(rows.new_full((), len(rows)))
    return sum_over_ranks(rows.sum(dim=0)) / count


def differentiable_sum(values: Tensor) -> Tensor:
    """Sum over all ranks through which the gradients of all ranks flow back; the tensor itself on one rank."""
    if ranks() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce  # missing if torch is built without distributed

    total: Tensor = all_reduce(values)
    return total


def max_over_ranks(values: Tensor) -> Tensor:
    """Largest value over all ranks, without gradient; the tensor itself on one rank."""
    if ranks() == 1:
        return values
    values = values.detach().clone()
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values


def mean_of_ranks(values: Tensor) -> Tensor:
    """Mean over all ranks, without gradient, such as of their losses."""
    return sum_over_ranks(values.detach()) / ranks()


def logs_this_step(trainer: Any) -> bool:
    """Return whether Lightning writes the current training step's logs, so that communication is worthwhile."""
    return bool(trainer._logger_connector.should_update_logs)


def mean_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights that turn a sum into the mean over the true positions of all ranks, all 0 if there are none.

    One over the all-reduced count, times the number of ranks, which DDP's averaging of gradients cancels: the gradient
    is that of one process with the whole batch.

    Args:
        mask: Bool, any shape.
        dtype: Dtype of the weights.
    """
    count = sum_over_ranks(mask.sum().to(dtype))
    return mask.to(dtype) * (ranks() / count.clamp_min(1))


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
