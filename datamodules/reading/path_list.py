"""Compact list of file names in memory that loader processes share.

A million `Path` objects take 400 MB, and once more in each worker, because reading one writes to its reference count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray


class Listing(Sequence[Path]):
    """Files in one buffer of bytes and one of offsets: 8 bytes a file and its path below the base.

    Args:
        base: Folder that most of the files lie in; the others are kept with their whole path.
        files: The files.
    """

    def __init__(self, base: Path, files: Iterable[Path]) -> None:
        self.base = base
        prefix = os.fsencode(base) + os.fsencode(os.sep)
        names = bytearray()
        ends = [0]
        for file in files:
            names += os.fsencode(file).removeprefix(prefix)
            ends.append(len(names))
        self._names = _shared(np.frombuffer(names, np.uint8))
        self._ends = _shared(np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # negative ones count from the end, others beyond it raise IndexError
        start, end = self._ends[place : place + 2].tolist()
        return self.base / os.fsdecode(self._names[start:end].numpy().tobytes())

    @property
    def nbytes(self) -> int:
        """Memory of all processes together, bytes."""
        return self._names.nbytes + self._ends.nbytes


def _shared(values: NDArray[Any]) -> torch.Tensor:
    """A copy in memory that other processes see as well, however they are started."""
    tensor = torch.empty(values.shape, dtype={1: torch.uint8, 8: torch.int64}[values.itemsize]).share_memory_()
    tensor.numpy()[...] = values
    return tensor
