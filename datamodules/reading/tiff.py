"""TIFFs that neither Pillow nor OpenCV reads correctly: extra bands, or bands in separate planes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.reading.quiet import quiet
from src.core.errors import UserError


def is_installed() -> bool:
    """Return whether rasterio, the extra `geo`, is installed to read them."""
    return find_spec("rasterio") is not None


def is_tiff(path: Path) -> bool:
    """Return True for a file with a TIFF signature."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and big, both byte orders


def read_bands(path: Path) -> NDArray[Any]:
    """All bands as stored: `[h, w]` of a file with one, else `[h, w, bands]`.

    Raises:
        DecompressionBombError: If it has more pixels than Pillow's limit, before any is read.
    """
    with _opened(path) as file:
        bands = np.moveaxis(file.read(), 0, 2)
    return bands[..., 0] if bands.shape[2] == 1 else bands


def count_bands(path: Path) -> int:
    """Number of bands of a TIFF."""
    with _opened(path) as file:
        return int(file.count)


def read_colours(path: Path) -> tuple[NDArray[Any], float | None]:
    """The bands tagged as red, green and blue; else all three of three bands, or a single band repeated three times.

    Returns:
        `[h, w, 3]` in the file's type, and its nodata value, if the file names one.

    Raises:
        UserError: If the file has other bands than these.
        DecompressionBombError: If it has more pixels than Pillow's limit, before any is read.
    """
    from rasterio.enums import ColorInterp

    with _opened(path) as file:
        marked = {colour: band for band, colour in enumerate(file.colorinterp, start=1)}
        colours = [
            marked[colour] for colour in (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if colour in marked
        ]
        if len(colours) < 3 and file.count not in (1, 3):
            raise UserError(
                f"{file.count} without such tags; write the three to use, as with "
                "gdal_translate -b 3 -b 2 -b 1 -colorinterp red,green,blue"
            )
        if len(colours) < 3:
            colours = [1, 1, 1] if file.count == 1 else [1, 2, 3]
        return np.moveaxis(file.read(colours), 0, 2), file.nodata


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import rasterio

    with quiet(rasterio.errors.NotGeoreferencedWarning):  # the georeference is not needed
        file = rasterio.open(path)
    with file:
        if Image.MAX_IMAGE_PIXELS and file.width * file.height > 2 * Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{file.width * file.height} pixels")
        yield file
