"""Limit loader processes to what shared memory can hold; containers have as little as 64 MB."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.core.distributed import process

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
PREFETCHED = 2  # batches that each process prepares ahead, PyTorch's default
_PLENTY = 2**33  # bytes, above which nothing is measured


def fitting_workers(sample: Callable[[], Any], batch: int, num_workers: int, prefetched: int = PREFETCHED) -> int:
    """Return the number of loader processes whose batches fit in shared memory; warn if it is lower than requested.

    A process without room is killed by a bus error, without a message of its own.

    Args:
        sample: Makes a sample, to measure its size if memory is scarce.
        batch: Samples per batch.
        num_workers: Requested number of processes.
        prefetched: Batches that each process prepares ahead.
    """
    if num_workers == 0 or not SHARED_MEMORY.is_dir():
        return num_workers
    free = shutil.disk_usage(SHARED_MEMORY).free // process()[1]  # the other ranks of this machine use theirs
    if free >= _PLENTY:
        return num_workers
    each = batch * _nbytes(sample()) * (prefetched + 1)  # the last is in use while the next are prepared
    fitting = min(num_workers, free // max(1, each))
    if fitting < num_workers:
        logger.warning(
            "%s: expected %d MB of shared memory for %d loader processes, found %d MB: loading with %s; give the "
            "container more, as in docker run --shm-size=8g, or lower num_workers or batch_size",
            SHARED_MEMORY,
            -(-each * num_workers // 2**20),
            num_workers,
            free // 2**20,
            f"{fitting} of them" if fitting else "none of them, in the main process, which is slower",
        )
    return fitting


def _nbytes(sample: Any) -> int:
    if isinstance(sample, np.ndarray | Tensor):
        return int(sample.nbytes)
    return sum(map(_nbytes, sample)) if isinstance(sample, list | tuple) else 0
