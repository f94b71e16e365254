"""The header of a safetensors file: names, shapes and types, read without its tensors."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from src.core.errors import UserError


def read_header(path: Path) -> dict[str, Any]:
    """Read the header: tensor name → `dtype`, `shape`, `data_offsets`; and `__metadata__`.

    Raises:
        UserError: If the file is cut off or of another format.
        FileNotFoundError: If it is not there.
    """
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > path.stat().st_size - 8:
            raise UserError(f"{path}: expected a safetensors file, found one that is cut off or of another format")
        text = stream.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: expected the header of a safetensors file, found a damaged one ({error})") from None
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise UserError(f"{path}: expected the header of a safetensors file, found another JSON value")
    return header


def count_values(path: Path) -> int:
    """Count the values of all tensors.

    Raises:
        UserError, FileNotFoundError: As `read_header`.
    """
    shapes = [entry.get("shape") for name, entry in read_header(path).items() if name != "__metadata__"]
    if not all(isinstance(shape, list) and all(isinstance(size, int) for size in shape) for shape in shapes):
        raise UserError(f"{path}: expected a shape for each tensor, found a damaged header")
    return sum(prod(shape) for shape in shapes if shape is not None)
