"""Read mask files: ids in, classes out, each value checked before it is used as an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from datamodules.reading import tiff as geotiff
from datamodules.reading.errors import ImageError, unreadable
from datamodules.reading.lossy_formats import refuse_lossy
from datamodules.reading.orientation import opened, tiff_orientation, upright
from datamodules.reading.stored_values import bits, grey_values

IGNORE = 255  # ignore index: pixels that are neither trained on nor scored
MOST = 2**16 - 1  # the largest id of a class: predicted masks are written in 16 bits at most


def read_mask(path: Path, labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Read a mask of ids and map them to classes. Palette files give indices, not colours; 1-bit files give 0 and 1.

    Args:
        path: One-channel file (or three equal channels), opaque if it has alpha. Integers may be stored as floats.
        labels: id in the file, which may be negative → class, or `IGNORE`.

    Returns:
        uint8 `[h, w]`, upright as the file's orientation says.

    Raises:
        ImageError: If the file is unreadable, lossy, coloured, or holds an id that is not in `labels`.
    """
    return decode_mask(path, labels)[0]


def decode_mask(path: Path, labels: Mapping[int, int]) -> tuple[NDArray[np.uint8], int]:
    """`read_mask`, and the orientation of the file."""
    ids, orientation = _read_ids(path)
    present = np.unique(ids)
    if unknown := [int(i) for i in present if int(i) not in labels]:
        raise ImageError(
            f"{path}: expected ids {id_ranges(sorted(labels))}, found {id_ranges(unknown)} as well; "
            f"{_what_to_do(unknown, [i for i, c in labels.items() if c == IGNORE])}"
        )
    classes = np.array([labels[int(i)] for i in present], np.uint8)
    if ids.dtype == np.uint8:
        table = np.full(256, IGNORE, np.uint8)
        table[present] = classes
        return table[ids], orientation
    return classes[np.searchsorted(present, ids)], orientation


def mask_ids(path: Path) -> set[int]:
    """The ids that occur in a mask file.

    Raises:
        ImageError: If the file is unreadable, lossy or coloured.
    """
    return {int(i) for i in np.unique(_read_ids(path)[0])}


def id_ranges(ids: list[int]) -> str:
    """[0, 1, 2, 3, 255] → "0–3, 255"."""
    parts: list[list[int]] = []
    for i in ids:
        if parts and i == parts[-1][-1] + 1:
            parts[-1].append(i)
        else:
            parts.append([i])
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


def _what_to_do(unknown: list[int], ignored: list[int]) -> str:
    negative = [i for i in unknown if i < 0]
    if not negative:
        return "correct the mask, or name these ids among the classes or the ignored ids"
    those = ", ".join(map(str, negative))
    return (
        f"if {those} marks unlabelled pixels, such as the nodata value of GIS tools, add it to the ignored ids: "
        f"ignored_ids: [{', '.join(map(str, sorted({*negative, *ignored})))}]"
    )


def _read_ids(path: Path) -> tuple[NDArray[Any], int]:
    """Ids `[h, w]` of an integer type, upright, and the orientation of the file."""
    refuse_lossy(path)
    try:
        with opened(path) as stored:
            stored.image.load()
            orientation, mode = stored.orientation, stored.image.mode
            ids = grey_values(stored.image, path)
            if ids.ndim == 3 and (depth := bits(stored.image, path)) > 8:  # of which Pillow keeps 8
                raise ImageError(
                    f"{path}: expected a mask with one channel of class ids, found {mode} with {depth} bits a "
                    "channel; convert it to one channel"
                )
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        ids, orientation, mode = _from_rasterio(path, error), tiff_orientation(path), "of several bands"
    except Exception as error:  # decoders raise nearly anything on broken input
        raise unreadable(path, "a mask", error) from error
    if mode in ("LA", "RGBA") and (ids[..., -1] == 255).all():  # fully opaque alpha
        ids, mode = ids[..., :-1], mode[:-1]
    if ids.ndim == 3 and mode in ("L", "RGB"):
        if not (ids == ids[..., :1]).all():
            raise _coloured(path, ids)
        ids = ids[..., 0]
    if ids.dtype == bool:
        ids = ids.astype(np.uint8)
    if ids.ndim == 2 and np.issubdtype(ids.dtype, np.floating):
        ids = _whole(path, ids)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ImageError(f"{path}: expected a mask with one channel of class ids, found mode {mode}; convert it to ids")
    return upright(ids, orientation), orientation


def _from_rasterio(path: Path, error: Exception) -> NDArray[Any]:
    """A TIFF of a type that Pillow does not support: 64 bits, half precision, several bands."""
    if not geotiff.is_tiff(path):
        raise unreadable(path, "a mask", error) from error
    if not geotiff.is_installed():
        raise ImageError(
            f"{path}: expected a mask of 8, 16 or 32 bits, found a TIFF of another type; "
            "pip install 'glare-lightning[geo]' to read it, or convert it with gdal_translate -ot UInt16"
        ) from error
    try:
        return geotiff.read_bands(path)
    except Exception as other:
        raise unreadable(path, "a mask", other) from other


def _whole(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    """Integers stored as floats, the default of ArcGIS and rasterio."""
    other = values[~(np.isfinite(values) & (np.abs(values) < 2**53) & (values == np.rint(values)))]
    if other.size:
        raise ImageError(
            f"{path}: expected class ids, which are whole numbers, found "
            f"{other[0]:g}{'' if other.size == 1 else f' and {other.size - 1:,} more such pixels'}; write integer "
            "ids, with an ignored one such as 255 for unlabelled pixels"
        )
    return values.astype(np.int64)


def _coloured(path: Path, pixels: NDArray[Any]) -> ImageError:
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    first = "` and `".join(f"- {{name: …, colour: {colour.tolist()}}}" for colour in colours[:2])
    return ImageError(
        f"{path}: expected a mask with one channel of class ids, found mode RGB with {len(colours):,} colours; if "
        "each colour is a class, list them in classes.yaml in the folder that holds images and masks, one per line: "
        f"`{first}`, or convert the masks to ids"
    )
