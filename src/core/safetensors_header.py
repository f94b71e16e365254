"""The header of a safetensors file: names, shapes and types, read without its tensors."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from src.core.errors import UserError


class Header(NamedTuple):
    """The header of a file.

    Attributes:
        entries: Tensor name → `dtype`, `shape`, `data_offsets`; and `__metadata__`.
        size: Bytes before the tensors' data, the origin of `data_offsets`.
    """

    entries: dict[str, Any]
    size: int


def parse_header(content: bytes, length: int, name: str) -> Header:
    """Read the header of a file's first bytes.

    Args:
        content: The first bytes, with the complete header.
        length: Size of the file, bytes.
        name: Its name, for messages.

    Raises:
        UserError: If the file is truncated or of another format.
    """
    size = 8 + int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > length:
        raise UserError(f"{name}: expected a safetensors file, found one that is cut off or of another format")
    try:
        entries = json.loads(content[8:size])
    except ValueError as error:
        raise UserError(f"{name}: expected the header of a safetensors file, found a damaged one ({error})") from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UserError(f"{name}: expected the header of a safetensors file, found another JSON value")
    return Header(entries, size)


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        UserError: As `parse_header`.
        FileNotFoundError: If the file does not exist.
    """
    length = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        rest = stream.read(min(int.from_bytes(start, "little"), length))
    return parse_header(start + rest, length, str(path))


def count_values(path: Path) -> int:
    """Count the values of all tensors.

    Raises:
        UserError, FileNotFoundError: As `read_header`.
    """
    shapes = [entry.get("shape") for name, entry in read_header(path).entries.items() if name != "__metadata__"]
    if not all(isinstance(shape, list) and all(isinstance(size, int) for size in shape) for shape in shapes):
        raise UserError(f"{path}: expected a shape for each tensor, found a damaged header")
    return sum(prod(shape) for shape in shapes if shape is not None)
