"""Read and atomically write archives of arrays (.npz)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.core.atomic_files import replacing
from src.core.errors import UserError


def write_arrays(path: Path, **arrays: ArrayLike) -> None:
    """Write a compressed archive."""
    with replacing(path) as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays, and check the checksum of each.

    Raises:
        UserError: If the archive is cut off, damaged or of another format.
        FileNotFoundError: If it does not exist.
    """
    try:
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        KeyError,
        BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path}: expected an archive of arrays (.npz), found a damaged file ({error})") from None
