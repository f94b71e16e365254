"""Samplers whose order does not depend on the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from src.core.distributed import process
from src.core.errors import UserError


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields (epoch, index) for training, with or without several processes, from any point of an epoch.

    The order of an epoch is one permutation; rank r of R takes every R-th entry, starting at r. The b-th global batch
    is therefore the same set of samples for two processes with batch n as for one with batch 2n. The last, incomplete
    global batch of an epoch is dropped. (A `DistributedSampler`, because Lightning replaces any other kind.)

    Args:
        size: Number of samples in the data set.
        batch_size: Samples per batch and process.
        seed: The run's seed.
        consumed: Returns how many samples all processes together have trained on since the first epoch. If given, it
            alone decides where the next pass starts, even in the middle of an epoch; `set_epoch` then has no effect.
        rank: This process; None asks torch.distributed.
        ranks: Number of processes; None asks torch.distributed.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int = 0,
        consumed: Callable[[], int] | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        here, count = process()
        super().__init__(
            _Sized(size), num_replicas=count if ranks is None else ranks, rank=here if rank is None else rank, seed=seed
        )
        self.size = size
        self.consumed = consumed
        self.batches = size // (batch_size * self.num_replicas)
        if self.batches < 1:
            raise UserError(
                f"expected at least {batch_size} samples for each of {self.num_replicas} processes, found {size}"
            )
        self.num_samples = self.batches * batch_size  # in this process
        self.total_size = self.num_samples * self.num_replicas
        self.epoch_samples = self.total_size  # fewer if the trainer limits the batches of an epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, skip = (self.epoch, 0) if self.consumed is None else divmod(self.consumed(), self.epoch_samples)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
        for index in order[skip + self.rank : self.total_size : self.num_replicas]:
            yield epoch, int(index)


class EverySampleOnce(DistributedSampler[int]):
    """Yields indices in order for evaluation; several processes share them without repeating one to fill a batch.

    Args:
        size: Number of samples in the data set.
    """

    def __init__(self, size: int) -> None:
        rank, ranks = process()
        super().__init__(_Sized(size), num_replicas=ranks, rank=rank, shuffle=False)
        self.indices = range(rank, size, ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Sized(Dataset[Any]):
    """Length of a data set, which is all that DistributedSampler needs."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size
