"""Write embeddings: resumable parts, then one table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.core.atomic_files import make_folder, replacing, write_text
from src.core.errors import UserError
from src.core.json_files import damaged, read_json
from src.core.printable import printable

KEYS = ("cls", "patches")
Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Parts:
    """Parts of a table, of `chunk` images each, below `out/.parts`.

    Attributes:
        folder: Their folder.
        names: All images.
        chunk: Images of a part; the last has fewer.
    """

    folder: Path
    names: Sequence[str]
    chunk: int

    @classmethod
    def opened(cls, out: Path, names: Sequence[str], identity: Mapping[str, Any], chunk: int) -> Parts:
        """Start, or resume with the same images and settings.

        Raises:
            UserError: If the folder holds embeddings of other images or settings.
        """
        wanted = {**identity, "chunk": chunk, "names": list(names)}
        path = out / "embed.json"
        before = read_json(path)
        if before is None:  # parts without it belong to unknown images and settings
            for part in (out / ".parts").glob("*.npz"):
                part.unlink()
        elif differing := sorted(key for key in wanted if before.get(key) != wanted[key]):
            raise UserError(
                f"{out} holds embeddings with other settings ({', '.join(differing)}); give another --out, or delete it"
            )
        make_folder(out / ".parts")
        write_text(path, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")
        return cls(out / ".parts", names, chunk)

    def missing(self) -> list[int]:
        """Numbers of missing or unreadable parts; the latter are reported on stderr."""
        return [number for number in range(math.ceil(len(self.names) / self.chunk)) if self._read(number) is None]

    def write(self, number: int, arrays: Arrays) -> None:
        """Write one part atomically."""
        with replacing(self._file(number)) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def joined(self) -> Arrays:
        """All parts, `[N, D]` by key.

        Raises:
            UserError: If one of them cannot be read.
        """
        found: dict[str, list[NDArray[np.float32]]] = {key: [] for key in KEYS}
        for number in range(math.ceil(len(self.names) / self.chunk)):
            part = self._read(number)
            if part is None:
                raise UserError(f"{self._file(number)}: expected the part that was written there; start again")
            for key in KEYS:
                found[key].append(part[key])
        return {key: np.concatenate(arrays) for key, arrays in found.items()}

    def _read(self, number: int) -> Arrays | None:
        """A part, or None unless it is complete and of the same images."""
        path = self._file(number)
        if not path.is_file():
            return None
        rows = min(self.chunk, len(self.names) - number * self.chunk)
        try:
            with np.load(path) as part:
                arrays = {key: part[key] for key in KEYS}
        except Exception as error:  # readers of damaged archives raise many kinds of errors
            damaged(path, f"expected embeddings, found a damaged file ({error})")
            return None
        if any(array.ndim != 2 or len(array) != rows for array in arrays.values()):
            damaged(path, f"expected embeddings of {rows} images, found others")
            return None
        return arrays

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"


def write_tables(out: Path, names: Sequence[str], arrays: Arrays, kind: Literal["parquet", "npy"]) -> list[Path]:
    """Write the table of all images.

    Args:
        out: The folder.
        names: Paths of the images below their folder, in the order of the rows.
        arrays: Class tokens `cls` and means of the patches `patches`, `[N, D]`.
        kind: `parquet`: `embeddings.parquet` with the columns image, cls, patches; `npy`: `cls.npy`, `patches.npy` and
            `images.txt`, one name per line. Control characters in names are escaped in both.
    """
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        columns = {key: pyarrow.FixedSizeListArray.from_arrays(a.ravel(), a.shape[1]) for key, a in arrays.items()}
        path = out / "embeddings.parquet"
        with replacing(path) as partial:
            parquet.write_table(pyarrow.table({"image": [printable(name) for name in names], **columns}), partial)
        return [path]
    for key, array in arrays.items():
        with replacing(out / f"{key}.npy") as partial:
            np.save(partial, array)
    write_text(out / "images.txt", "".join(f"{printable(name)}\n" for name in names))
    return [out / "cls.npy", out / "patches.npy", out / "images.txt"]


def write_dense(folder: Path, name: str, features: NDArray[np.float32]) -> None:
    """Write the map `[D, h, w]` of one image as float16, at the image's relative path plus `.npy`."""
    path = folder / f"{name}.npy"
    make_folder(path.parent)
    with replacing(path) as partial:
        np.save(partial, features.astype(np.float16))
