"""Detect parts of an image file that are dropped when it is read, such as alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datamodules.reading import tiff as geotiff
from datamodules.reading.images import read_image
from datamodules.reading.orientation import opened
from datamodules.reading.stored_values import bits
from datamodules.reading.stretching import Stretch

ALPHA = "transparency (alpha)"
BANDS = "bands other than colours"
FRAMES = "frames or pages after the first"
FLATTENED = "nearly all grey levels, because a few extreme values set the range: set percentiles: [1, 99] or range"

_FEW = 16  # of 256 levels that hold nearly all pixels
_NEARLY_ALL = 0.98
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # channels of TIFF's photometric interpretations; one for all others
_SAMPLES_PER_PIXEL, _PHOTOMETRIC, _SUBFILE = 277, 262, 254  # TIFF tags
_NO_PAGE = 0b101  # bits of the last tag: a smaller copy, or a mask


def unused_parts(path: Path, pixels: NDArray[np.uint8]) -> list[str]:
    """Name the parts of a readable file that are left out.

    Args:
        path: The file.
        pixels: The pixels read from it, `[h, w, 3]`.
    """
    try:
        with opened(path) as stored:
            file = stored.image
            deep = bits(file, path) > 8
            parts = [FRAMES] if _pages(file) > 1 else []
            file.seek(0)
            tags: Any = getattr(file, "tag_v2", {})
            more = int(tags.get(_SAMPLES_PER_PIXEL, 1)) - _COLOURS.get(int(tags.get(_PHOTOMETRIC, 1)), 1)
            if "A" in file.getbands() or "transparency" in file.info:
                parts += [ALPHA] if _is_transparent(file) else []
                more -= 1
            parts += [BANDS] if more > 0 else []
    except UnidentifiedImageError:  # rasterio has read it
        deep, parts = pixels.size > 0, [BANDS] if geotiff.count_bands(path) not in (1, 3) else []
    return [*parts, FLATTENED] if deep and _flattened(path, pixels) else parts


def _pages(file: Image.Image) -> int:
    count = 0
    for frame in range(getattr(file, "n_frames", 1)):
        file.seek(frame)
        tags: Any = getattr(file, "tag_v2", {})
        count += not int(tags.get(_SUBFILE, 0)) & _NO_PAGE
    return count


def _is_transparent(file: Image.Image) -> bool:
    alpha = file.convert("RGBA").getchannel("A").getextrema()
    return bool(np.min(alpha) < 255)


def _flattened(path: Path, pixels: NDArray[np.uint8]) -> bool:
    """Return True if the range of the stretch leaves only a few levels for most of the values."""
    levels = _levels(pixels)
    return levels <= _FEW and _levels(read_image(path, Stretch(percentiles=(1, 99)))) > 2 * levels


def _levels(pixels: NDArray[np.uint8]) -> int:
    """Number of levels that hold nearly all values."""
    counts = np.sort(np.bincount(pixels.ravel(), minlength=256))[::-1]
    return int(np.searchsorted(np.cumsum(counts), _NEARLY_ALL * pixels.size)) + 1
