"""Read pixel values as stored where Pillow would convert them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS_PER_SAMPLE = 258  # TIFF tag
_PHOTOMETRIC = 262  # TIFF tag: 0 where 0 is white
_SAMPLE_FORMAT = 339  # TIFF tag: 1 unsigned, 2 signed, 3 floating point
_GAP = rb"(?:\s|#[^\n]*\n)+"  # spaces and comments
_PORTABLE = re.compile(rb"P[2356]" + _GAP + rb"\d+" + _GAP + rb"\d+" + _GAP + rb"(\d+)\s")


def bits(file: Image.Image, path: Path) -> int:
    """Bits of the deepest channel of an opened file, which Pillow may truncate to 8."""
    if file.mode.startswith(("I", "F")):
        return 16 if file.mode.startswith("I;16") else 32
    head = _head(path)
    if file.format == "PNG":
        return head[24]  # bit depth in the IHDR chunk
    if file.format == "PPM":
        return _largest(head).bit_length()
    if file.format == "JPEG2000":
        size = head.find(b"\xff\x4f\xff\x51")  # start of the codestream, then the marker SIZ
        return (head[size + 42] & 0x7F) + 1 if 0 <= size < len(head) - 42 else 8
    return int(np.max(getattr(file, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)))


def grey_values(file: Image.Image, path: Path) -> NDArray[Any]:
    """The values of a decoded file; of a palette its indices.

    Pillow reads signed bytes and unsigned 32-bit values of a TIFF with the wrong sign, inverts bytes if 0 is white, and
    stretches 2-bit, 4-bit and PGM values to 255.
    """
    values: NDArray[Any] = np.asarray(file)
    if values.ndim != 2 or file.mode in ("1", "P"):
        return values
    tags: Any = getattr(file, "tag_v2", None)
    if tags is not None:
        depth, kind = int(np.max(tags.get(_BITS_PER_SAMPLE, 8))), int(np.max(tags.get(_SAMPLE_FORMAT, 1)))
        if file.mode == "L" and tags.get(_PHOTOMETRIC) == 0:
            values = 255 - values
        values = values.view({(8, 2): np.int8, (32, 1): np.uint32}.get((depth, kind), values.dtype))
        return values // (255 // (2**depth - 1)) if depth in (2, 4) else values
    head = _head(path)
    if file.format == "PNG" and head[24] in (2, 4):
        return values // (255 // (2 ** head[24] - 1))
    if file.format == "PPM" and (most := _largest(head)) not in (255, 65535):
        return np.rint(values * (most / (65535 if most > 255 else 255))).astype(np.uint16)
    return values


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2048)


def _largest(head: bytes) -> int:
    """The value of white in a PGM or PPM; 255 if the file gives none."""
    found = _PORTABLE.match(head)
    return int(found[1]) if found else 255
