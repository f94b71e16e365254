"""Compact list of file names in memory shared by loader processes.

A million `Path` objects take 400 MB, and again in each worker, because reading one writes to its reference count.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

_BLOCK = 64  # names between two stored offsets


class Listing(Sequence[Path]):
    """Files in a few buffers: the name of each file plus 2.1 bytes, and the path of each folder once.

    A folder's path is stored again after each change of folder, so sorted files take least memory.

    Args:
        base: Folder of most of the files; the others are kept with their full path.
        files: The files.
    """

    def __init__(self, base: Path, files: Iterable[Path]) -> None:
        self.base = base
        prefix, separator = os.fsencode(base) + os.fsencode(os.sep), os.fsencode(os.sep)
        names, lengths, blocks = bytearray(), array("H"), array("q")
        paths = bytearray()
        known: dict[bytes, int] = {}
        ends, starts, where = array("q", [0]), array("q"), array("q")  # of folders; of consecutive files in one folder
        before: bytes | None = None
        for number, file in enumerate(files):
            whole = os.fsencode(file).removeprefix(prefix)
            name = whole.rpartition(separator)[2]
            folder = whole[: len(whole) - len(name)]  # with its separator
            if number % _BLOCK == 0:
                blocks.append(len(names))
            names += name
            lengths.append(len(name))
            if folder != before:
                if folder not in known:
                    known[folder] = len(known)
                    paths += folder
                    ends.append(len(paths))
                starts.append(number)
                where.append(known[folder])
                before = folder
        self._names, self._lengths, self._blocks, self._paths, self._ends, self._starts, self._where = (
            _shared(np.frombuffer(values, kind))
            for values, kind in (
                (names, np.uint8), (lengths, np.uint16), (blocks, np.int64), (paths, np.uint8), (ends, np.int64),
                (starts, np.int64), (where, np.int64),
            )
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # negative ones count from the end, others beyond it raise IndexError
        block = place // _BLOCK
        lengths = self._lengths.numpy()[block * _BLOCK : place + 1]
        end = int(self._blocks[block]) + int(lengths.sum(dtype=np.int64))
        name = self._names[end - int(lengths[-1]) : end]
        run = int(np.searchsorted(self._starts.numpy(), place, side="right")) - 1
        first, last = self._ends[int(self._where[run]) :][:2].tolist()
        return self.base / os.fsdecode(self._paths[first:last].numpy().tobytes() + name.numpy().tobytes())

    @property
    def nbytes(self) -> int:
        """Memory of all processes together, in bytes."""
        buffers = (self._names, self._lengths, self._blocks, self._paths, self._ends, self._starts, self._where)
        return sum(buffer.nbytes for buffer in buffers)


def _shared(values: NDArray[Any]) -> torch.Tensor:
    """A copy in shared memory, for processes started in any way."""
    kinds = {1: torch.uint8, 2: torch.uint16, 8: torch.int64}
    tensor = torch.empty(values.shape, dtype=kinds[values.itemsize]).share_memory_()
    tensor.numpy()[...] = values
    return tensor
