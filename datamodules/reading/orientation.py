"""EXIF orientation of photographs.

TIFF decoders disagree about the tag: some apply it, some do not, some only for certain types, and Pillow 13 applies it
wrongly to uncompressed grey files. The tag is therefore read from the file and hidden from the decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.reading import heif
from datamodules.reading.quiet import quiet

_TAG = 0x0112  # of EXIF, and of TIFF


@dataclass(frozen=True)
class Stored:
    """An opened file that gives its pixels as stored.

    Attributes:
        image: Pillow's image, not decoded yet.
        orientation: 1–8; pixels become upright by `upright`.
        content: The bytes to decode, if they differ from the file.
    """

    image: Image.Image
    orientation: int
    content: bytes | None = None

    def encoded(self, path: Path) -> NDArray[np.uint8]:
        """Bytes for a decoder other than Pillow."""
        return np.fromfile(path, np.uint8) if self.content is None else np.frombuffer(self.content, np.uint8)


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """Open an image or a mask without applying its orientation, which is left to the caller.

    Raises:
        UnidentifiedImageError: If Pillow does not support the format, among other errors of Pillow's.
    """
    heif.register(path)
    orientation, content = _hidden(path)
    with Image.open(path if content is None else BytesIO(content)) as image:
        yield Stored(image, orientation if content is not None else _orientation(image), content)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation to stored pixels `[h, w, …]`; a view, not a copy."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def tiff_orientation(path: Path) -> int:
    """The orientation of a TIFF, also of one that Pillow can't open; 1 for any other file."""
    return _hidden(path)[0]


def _orientation(file: Image.Image) -> int:
    """EXIF orientation 1–8; 1, upright, where the EXIF block is absent or broken."""
    try:
        with quiet():  # Pillow warns about corrupt EXIF, of which only the orientation matters here
            value = file.getexif().get(_TAG, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _hidden(path: Path) -> tuple[int, bytes | None]:
    """The orientation of a TIFF that has one, and its bytes with the tag set to 1; (1, None) for any other file."""
    with path.open("rb") as file:
        try:
            found = _tiff_tag(file)
        except (struct.error, OverflowError, OSError):  # a damaged file, which the decoder reports
            found = None
        if found is None:
            return 1, None
        place, order, orientation = found
        file.seek(0)
        content = bytearray(file.read())
    struct.pack_into(f"{order}H", content, place, 1)
    return orientation, bytes(content)


def _tiff_tag(file: BinaryIO) -> tuple[int, str, int] | None:
    """Offset of the orientation of a TIFF's first page, its byte order and value, if it is not 1."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2))
    if order is None:
        return None
    (version,) = struct.unpack(f"{order}H", file.read(2))
    if version not in (42, 43):
        return None
    big = version == 43  # BigTIFF: offsets of 8 bytes, entries of 20
    file.seek(8 if big else 4)
    (start,) = struct.unpack(f"{order}{'Q' if big else 'I'}", file.read(8 if big else 4))
    file.seek(start)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    first, step, value_at = file.tell(), 20 if big else 12, 12 if big else 8
    for entry in range(min(count, 1000)):
        file.seek(first + entry * step)
        if struct.unpack(f"{order}H", file.read(2)) == (_TAG,):
            place = first + entry * step + value_at
            file.seek(place)
            (value,) = struct.unpack(f"{order}H", file.read(2))
            return (place, order, value) if value in range(2, 9) else None
    return None
