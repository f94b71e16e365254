"""Copy georeferences of images to their predicted masks; needs rasterio, the extra `geo`."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.core.errors import UserError

_GEO_TAGS = frozenset({33550, 33922, 34264, 34735})  # TIFF: pixel scale, tie points, transformation, GeoKeys
_WORLD_FILES = (".tfw", ".TFW", ".tifw", ".tiffw", ".wld")


class Georeference(NamedTuple):
    """Coordinate system, affine transform, and ground control points with their system, as in rasterio."""

    crs: Any
    transform: Any
    gcps: Any


def georeference(image: Path, shape: tuple[int, ...]) -> Georeference | None:
    """The georeference of a TIFF, in the file or in a world file next to it; None for any other file.

    Also None, with one warning, without rasterio.

    Args:
        image: The file.
        shape: (h, w) of its mask.

    Raises:
        UserError: If the file's own size differs, because its EXIF orientation was applied.
    """
    if image.suffix.lower() not in (".tif", ".tiff"):
        return None
    if find_spec("rasterio") is None:
        if _looks_georeferenced(image):
            warnings.warn(
                "GeoTIFFs are predicted without their georeference, because rasterio is not installed: "
                "pip install 'glare-lightning[geo]'",
                stacklevel=2,
            )
        return None
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # the question here
        try:
            file = rasterio.open(image)
        except rasterio.errors.RasterioIOError:  # Pillow reads some formats that GDAL does not
            if _looks_georeferenced(image):
                raise
            return None
        with file:
            place, own = Georeference(file.crs, file.transform, file.gcps), file.shape
    if not (place.crs or place.gcps[0]) and place.transform.is_identity:
        return None
    if own != shape:
        raise UserError(
            f"{image}: expected a mask of {own[1]}×{own[0]}, found {shape[1]}×{shape[0]}; an EXIF "
            "orientation and a georeference contradict each other: remove the orientation"
        )
    return place


def _looks_georeferenced(image: Path) -> bool:
    """Guess from the file, without rasterio."""
    if any(image.with_suffix(suffix).is_file() for suffix in _WORLD_FILES):
        return True
    with Image.open(image) as file:
        return bool(_GEO_TAGS & set(getattr(file, "tag_v2", {})))


def write_geotiff(
    path: Path, ids: NDArray[np.integer[Any]], place: Georeference, colours: dict[int, tuple[int, ...]]
) -> None:
    """Write ids `[h, w]` as a compressed one-band GeoTIFF; 8-bit ids with their colours."""
    import rasterio

    height, width = ids.shape
    points, points_crs = place.gcps
    where = {"gcps": points, "crs": points_crs} if points else {"transform": place.transform, "crs": place.crs}
    layout = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": ids.dtype.name}
    with rasterio.open(path, "w", compress="deflate", bigtiff="if_safer", **layout, **where) as file:
        file.write(ids, 1)
        if ids.dtype == np.uint8:
            file.write_colormap(1, colours)
