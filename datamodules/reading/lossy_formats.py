"""Reject lossy formats for label masks."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from datamodules.reading.errors import ImageError

_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "HEIF": "HEIC", "AVIF": "AVIF"}  # Pillow's names
_JPEG_IN_TIFF = frozenset({"jpeg", "tiff_jpeg"})  # Pillow's names


def refuse_lossy(path: Path) -> None:
    """Check that a mask is not in a lossy format, whatever its suffix; files other than images pass.

    Raises:
        ImageError: If it is.
    """
    try:
        with Image.open(path) as file:
            kind = file.format
            compression = file.info.get("compression")
    except Exception:
        return  # reading it reports the fault
    if kind in _LOSSY or compression in _JPEG_IN_TIFF or (kind == "WEBP" and _is_lossy_webp(path)):
        found = _LOSSY.get(kind or "", "JPEG") if kind != "WEBP" else "lossy WebP"
        raise ImageError(
            f"{path}: expected a mask in a lossless format, found {found}, which changes ids at every edge; "
            "save the original labels as PNG (a copy of this file as PNG would keep the wrong ids)"
        )


def _is_lossy_webp(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(12)  # RIFF header; then chunks of a name, a size and that many bytes, padded to an even number
        while len(head := file.read(8)) == 8:
            if head[:4] in (b"VP8 ", b"VP8L"):
                return head[:4] == b"VP8 "
            size = int.from_bytes(head[4:], "little")
            file.seek(size + size % 2, os.SEEK_CUR)
    return False
