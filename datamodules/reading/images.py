"""Reading image and mask files: any common format in, RGB or class ids out, one clear error otherwise.

Pillow decodes, because it reports a truncated file where OpenCV returns a half grey picture; OpenCV only steps in for
colour files with more than 8 bits a channel, which Pillow would cut to 8, and rasterio for TIFFs that are beyond both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.reading import tiff as geotiff
from datamodules.reading.errors import ImageError, is_file, is_folder, refuse_folder, unreadable
from datamodules.reading.lossy_formats import refuse_lossy
from src.core.errors import MissingFile, UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
IGNORE = 255  # class id of pixels that neither train nor count

_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tag
_SAMPLES_PER_PIXEL = 277  # TIFF tag; Pillow's mode can show one channel where there are more
_NODATA = 42113  # TIFF tag of GDAL's, a number as text
_PLANAR_CONFIGURATION = 284  # TIFF tag: 2 where a file holds its channels one after another


def list_images(folder: Path, exclude: frozenset[str] = frozenset()) -> list[Path]:
    """All image files below a folder, sorted; hidden ones are left out; linked folders are not entered, but warned of.

    Args:
        folder: Where to look.
        exclude: Names of folders, directly below `folder`, that are not entered.

    Raises:
        MissingFile: If the folder does not exist.
        ImageError: If it holds no image, or it or a folder above or below may not be read.
    """
    if not is_folder(folder):
        raise MissingFile(f"{folder}: expected a folder of images, found {'a file' if is_file(folder) else 'nothing'}")
    found: list[Path] = []
    links: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse_folder):
        folders[:] = [f for f in folders if not f.startswith(".") and not (Path(place) == folder and f in exclude)]
        found += [Path(place, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in IMAGE_SUFFIXES]
        links += [Path(place, f) for f in folders if Path(place, f).is_symlink()]
    if links:
        warnings.warn(
            f"{folder}: linked subfolders are not entered; found {len(links)}, {min(links).relative_to(folder)} first; "
            "put the folders themselves in their place to use the images in them",
            stacklevel=1,  # from here, so that it is shown once, whoever lists the folder again
        )
    if not found:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"{folder}: expected images ({kinds}) in it or its subfolders, found none")
    return sorted(found)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a file to RGB, upright as its EXIF orientation says.

    More than 8 bits a channel are scaled from the image's own range to 0–255, never clipped; what a TIFF names as no
    data is 0, and out of that range. Alpha is dropped. TIFFs of bands without colours, or plane by plane with more than
    8 bits, need rasterio (the extra `geo`).

    Returns:
        uint8 `[h, w, 3]`.

    Raises:
        ImageError: If the file is missing, truncated, no image, of more pixels than Pillow's limit against
            decompression bombs (179 million), or has channels that are not colours.
    """
    try:
        with Image.open(path) as file:
            deep = _is_deep(file)
            if not deep or file.format == "PNG":
                file.load()  # raises on truncation, which OpenCV would not
            orientation = _orientation(file)
            if deep:
                pixels = _decode_deep(path, file)
                upright = ImageOps.exif_transpose(_with_orientation(Image.fromarray(pixels), orientation))
            else:
                image = _to_rgb(file)
                upright = ImageOps.exif_transpose(_with_orientation(image, orientation)) if orientation != 1 else image
            return np.asarray(upright, dtype=np.uint8)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if not (_is_tiff(path) and geotiff.is_installed()):
            raise unreadable(path, "an image", error) from error
        return _read_bands(path)
    except Exception as error:  # decoders raise nearly anything on broken input
        raise unreadable(path, "an image", error) from error


def read_mask(path: Path, labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Read a mask of ids and map them to classes. A palette file gives its indices, not its colours; bits are 0 and 1.

    Args:
        path: One-channel file (or three equal channels), opaque if it has alpha.
        labels: id in the file → class, or `IGNORE`.

    Returns:
        uint8 `[h, w]`.

    Raises:
        ImageError: If the file is unreadable, lossy, coloured, or holds an id that `labels` does not know.
    """
    ids = _read_ids(path)
    present = np.unique(ids)
    if unknown := [int(i) for i in present if int(i) not in labels]:
        raise ImageError(
            f"{path}: expected ids {_ranges(sorted(labels))}, found {_ranges(unknown)} as well; "
            "correct the mask, or name these ids among the classes or the ignored ids"
        )
    table = np.full(int(present.max()) + 1, IGNORE, np.uint8)
    table[present] = [labels[int(i)] for i in present]
    return table[ids.astype(np.int64, copy=False)]


def mask_ids(path: Path) -> set[int]:
    """The ids that occur in a mask file.

    Raises:
        ImageError: If the file is unreadable, lossy or coloured.
    """
    return {int(i) for i in np.unique(_read_ids(path))}


def _read_ids(path: Path) -> NDArray[Any]:
    refuse_lossy(path)
    try:
        with Image.open(path) as file:
            file.load()
            ids = np.asarray(file)
            mode = file.mode
    except Exception as error:
        raise unreadable(path, "a mask", error) from error
    if mode in ("LA", "RGBA") and (ids[..., -1] == 255).all():  # alpha that hides nothing
        ids, mode = ids[..., :-1], mode[:-1]
    if ids.ndim == 3 and mode in ("L", "RGB") and (ids == ids[..., :1]).all():
        ids = ids[..., 0]
    if ids.dtype == bool:
        ids = ids.astype(np.uint8)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ImageError(f"{path}: expected a mask with one channel of class ids, found mode {mode}; convert it to ids")
    return ids


def _is_deep(file: Image.Image) -> bool:
    """Whether a channel has more than 8 bits."""
    if file.mode.startswith(("I", "F")):
        return True
    if file.format == "PNG":
        with open(file.filename, "rb") as header:  # type: ignore[attr-defined]
            return bool(header.read(25)[24] == 16)  # bit depth in the IHDR chunk
    bits: Any = getattr(file, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
    return bool(np.max(bits) > 8)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and big, both byte orders


def _read_bands(path: Path) -> NDArray[np.uint8]:
    """A TIFF that only rasterio reads right."""
    try:
        pixels, nodata = geotiff.read_colours(path)
    except ValueError as error:
        raise ImageError(
            f"{path}: expected one band, three, or ones marked as red, green and blue, found {error}"
        ) from error
    except Exception as error:
        raise unreadable(path, "an image", error) from error
    try:
        return pixels if pixels.dtype == np.uint8 else _rescale(pixels, nodata)
    except ValueError as error:
        raise unreadable(path, "an image", error) from error


def _decode_deep(path: Path, file: Image.Image) -> NDArray[np.uint8]:
    mode = file.mode
    tags: Any = getattr(file, "tag_v2", {})
    if tags.get(_SAMPLES_PER_PIXEL, 1) > 1 and tags.get(_PLANAR_CONFIGURATION) == 2:  # OpenCV would misread it silently
        if geotiff.is_installed():
            return _read_bands(path)
        raise ImageError(
            f"{path}: expected the channels of a pixel side by side, found {mode} plane by plane; "
            "pip install 'glare-lightning[geo]', or rewrite it with gdal_translate -co INTERLEAVE=PIXEL"
        )
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    pixels = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(
            f"{path}: expected 1, 3 or 4 channels of 8 or 16 bits, found mode {mode} that OpenCV can't read"
        )
    if pixels.ndim == 2:
        return _rescale(np.repeat(pixels[..., None], 3, axis=2), _nodata(tags))
    if pixels.shape[2] not in (3, 4):
        raise ImageError(f"{path}: expected 1, 3 or 4 channels, found {pixels.shape[2]}; write the three to use as RGB")
    return _rescale(pixels[..., 2::-1], _nodata(tags))  # OpenCV's order is blue, green, red, alpha


def _nodata(tags: Mapping[int, Any]) -> float | None:
    """The value that a TIFF names for pixels without data."""
    try:
        return float(str(tags[_NODATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None


def _rescale(pixels: NDArray[Any], nodata: float | None) -> NDArray[np.uint8]:
    """Stretch an image's own range, over all channels, to 0–255; a constant image keeps its share of the type's.

    Pixels without data become 0, and the range is that of the others.
    """
    values = pixels.astype(np.float64)
    without = np.zeros(values.shape, bool)
    if nodata is not None:  # a float32 file may name it with fewer digits than it holds
        without = np.isclose(values, nodata, rtol=1e-6, atol=0, equal_nan=True)
    given = values[~without]
    if not np.isfinite(given).all():
        raise UserError("pixels that are NaN or infinite")
    low, high = (float(given.min()), float(given.max())) if given.size else (0.0, 1.0)
    if low == high:
        full = float(np.iinfo(pixels.dtype).max) if np.issubdtype(pixels.dtype, np.integer) else max(1.0, abs(high))
        low, high = 0.0, full
    values[without] = low
    return np.rint((values - low) * (255.0 / (high - low))).clip(0, 255).astype(np.uint8)


def _to_rgb(file: Image.Image) -> Image.Image:
    if file.mode == "RGB":
        return file
    if file.mode == "P" and "transparency" in file.info:
        file = file.convert("RGBA")
    return file.convert("RGB")


def _orientation(file: Image.Image) -> int:
    """EXIF orientation 1–8; 1, upright, where the EXIF block is absent or broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of corrupt EXIF, which costs nothing but the orientation
            value = file.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """The same pixels with an EXIF block that holds nothing but the orientation."""
    image.getexif().clear()
    image.getexif()[_ORIENTATION] = orientation
    return image


def _ranges(ids: list[int]) -> str:
    """[0, 1, 2, 3, 255] → "0–3, 255"."""
    parts: list[list[int]] = []
    for i in ids:
        if parts and i == parts[-1][-1] + 1:
            parts[-1].append(i)
        else:
            parts.append([i])
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)
