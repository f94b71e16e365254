"""Read image files of any common format as upright RGB.

Pillow decodes, because it reports a truncated file where OpenCV returns a half grey picture; OpenCV only steps in for
colour files with more than 8 bits a channel, which Pillow would cut to 8, and rasterio for TIFFs that are beyond both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datamodules.reading import tiff as geotiff
from datamodules.reading.errors import ImageError, unreadable
from datamodules.reading.orientation import Stored, opened, tiff_orientation, upright
from datamodules.reading.stored_values import bits, grey_values
from datamodules.reading.stretching import WHOLE_RANGE, Stretch

_SAMPLES_PER_PIXEL = 277  # TIFF tag; Pillow's mode can show one channel where there are more
_NODATA = 42113  # GDAL's TIFF tag, a number as text
_PLANAR_CONFIGURATION = 284  # TIFF tag: 2 for channels stored one after another


def read_image(path: Path, stretch: Stretch = WHOLE_RANGE, least: int | None = None) -> NDArray[np.uint8]:
    """Decode a file to RGB, upright as its EXIF orientation says.

    More than 8 bits a channel are stretched to 0–255, by default from the image's own range; a TIFF's nodata value
    becomes 0 and does not count for the range. Alpha is dropped; of several frames or pages the first is read. TIFFs
    with bands other than colours, or with separate planes of more than 8 bits, need rasterio (the extra `geo`).

    Args:
        path: The file.
        stretch: The range that becomes 0–255.
        least: Sufficient short side, pixels: a JPEG may be decoded at a half, a quarter or an eighth of its size if
            that is large enough, which skips most of the work.

    Returns:
        uint8 `[h, w, 3]`.

    Raises:
        ImageError: If the file is missing, truncated or not an image, has more pixels than Pillow's limit against
            decompression bombs (179 million), or has channels other than colours.
    """
    return decode_image(path, stretch, least)[0]


def decode_image(path: Path, stretch: Stretch = WHOLE_RANGE, least: int | None = None) -> tuple[NDArray[np.uint8], int]:
    """`read_image`, and the orientation of the file."""
    try:
        with opened(path) as stored:
            if least is not None:
                _scale(stored.image, least)
            deep = bits(stored.image, path) > 8
            pixels = _decode_deep(path, stored, stretch) if deep else np.asarray(_to_rgb(stored.image))
            return np.ascontiguousarray(upright(pixels, stored.orientation)), stored.orientation
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if not (geotiff.is_tiff(path) and geotiff.is_installed()):
            raise unreadable(path, "an image", error) from error
        orientation = tiff_orientation(path)
        return np.ascontiguousarray(upright(_read_bands(path, stretch), orientation)), orientation
    except Exception as error:  # decoders raise nearly anything on broken input
        raise unreadable(path, "an image", error) from error


def _scale(file: Image.Image, least: int) -> None:
    """Decode a JPEG at its smallest scale whose short side is large enough; other formats are unaffected."""
    if file.format == "JPEG" and file.mode in ("RGB", "L"):
        factor = least / min(file.size)
        # Pillow takes the largest scale that divides either side by no more than the sides asked for
        file.draft(None, (round(file.width * factor), round(file.height * factor)))


def _read_bands(path: Path, stretch: Stretch) -> NDArray[np.uint8]:
    """Read a TIFF that only rasterio reads correctly."""
    try:
        pixels, nodata = geotiff.read_colours(path)
    except ValueError as error:
        raise ImageError(
            f"{path}: expected one band, three bands, or bands tagged as red, green and blue, found {error}"
        ) from error
    except Exception as error:
        raise unreadable(path, "an image", error) from error
    try:
        return pixels if pixels.dtype == np.uint8 else stretch(pixels, nodata)
    except ValueError as error:
        raise unreadable(path, "an image", error) from error


def _decode_deep(path: Path, stored: Stored, stretch: Stretch) -> NDArray[np.uint8]:
    file = stored.image
    tags: Any = getattr(file, "tag_v2", {})
    channels = max(int(tags.get(_SAMPLES_PER_PIXEL, 1)), len(file.getbands()))
    if channels > 1 and tags.get(_PLANAR_CONFIGURATION) == 2:  # OpenCV would misread it silently
        if geotiff.is_installed():
            return _read_bands(path, stretch)
        raise ImageError(
            f"{path}: expected interleaved channels, found {file.mode} in separate planes; "
            "pip install 'glare-lightning[geo]', or rewrite it with gdal_translate -co INTERLEAVE=PIXEL"
        )
    if channels == 1:
        file.load()
        grey = stretch(grey_values(file, path), _nodata(tags))
        return np.repeat(grey[..., None], 3, axis=2)
    if not tags:
        with Image.open(path) as whole:
            whole.load()  # raises on truncation, unlike OpenCV
    pixels = cv2.imdecode(stored.encoded(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(
            f"{path}: expected 1, 3 or 4 channels of 8 or 16 bits, found mode {file.mode} that OpenCV can't read"
        )
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        found = pixels.shape[2] if pixels.ndim == 3 else 1
        raise ImageError(f"{path}: expected 1, 3 or 4 channels, found {found}; save the three to use as RGB")
    return stretch(pixels[..., 2::-1], _nodata(tags))  # OpenCV's order is blue, green, red, alpha


def _nodata(tags: Mapping[int, Any]) -> float | None:
    """The nodata value of a TIFF."""
    try:
        return float(str(tags[_NODATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None


def _to_rgb(file: Image.Image) -> Image.Image:
    if file.mode == "RGB":
        return file
    if file.mode == "P" and "transparency" in file.info:
        file = file.convert("RGBA")
    return file.convert("RGB")
