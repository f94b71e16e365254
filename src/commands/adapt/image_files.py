"""Write images of an iterable as PNG files named by content, so that order does not matter and a second call agrees."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from src.backbones.images import image_transform
from src.core.atomic_files import make_folder, write_bytes
from src.core.errors import UserError

KEYS = ("image", "images", "pixel_values")


def write_images(images: Iterable[Any], folder: Path) -> Path:
    """Write each image once; equal images share a file.

    Args:
        images: An iterable of images or batches, as `src.adapt` takes them.
        folder: Target folder; created if needed.

    Returns:
        The folder.

    Raises:
        UserError: If an item is not an image, there are none, or the folder holds images of another call.
    """
    if not isinstance(images, Iterable) or isinstance(images, Mapping | bytes):
        raise UserError(f"expected a folder, a DataLoader or an iterable of images, found a {type(images).__name__}")
    convert = image_transform(1, None)
    make_folder(folder)
    there, given = {path.name for path in folder.glob("*.png")}, set()
    for number, image in enumerate(image for batch in images for image in images_in(batch)):
        try:
            pixels = convert(image).mul(255).round().byte().permute(1, 2, 0).numpy()  # [H, W, 3]
        except UserError as error:
            raise UserError(f"image {number}: {error}") from None
        name = f"{_digest(pixels)}.png"
        if name not in there and name not in given:
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "PNG", compress_level=1)
            write_bytes(folder / name, content.getvalue())
        given.add(name)
    if not given:
        raise UserError("expected images, found an empty iterable; a generator can be read only once")
    if left := sorted(there - given):
        raise UserError(
            f"{folder} holds {len(left)} images that were not given this time, such as {left[0]}: they come from "
            "another call, or the images are augmented at random; give another out, or images without augmentation"
        )
    return folder


def images_in(batch: Any) -> Iterator[Any]:
    """Split a batch into images; a single image counts as a batch of one."""
    if isinstance(batch, Mapping):
        found = [key for key in KEYS if key in batch]
        if not found:
            raise UserError(
                f"expected a batch with one of {', '.join(KEYS)}, found the keys {', '.join(map(str, batch))}"
            )
        yield from images_in(batch[found[0]])
    elif isinstance(batch, tuple) or (isinstance(batch, list) and batch and not all(map(_is_image, batch))):
        if not batch:
            raise UserError("expected an image and perhaps its label, found an empty tuple")
        yield from images_in(batch[0])
    elif isinstance(batch, list) or (isinstance(batch, Tensor | np.ndarray) and batch.ndim == 4):
        yield from batch
    else:
        yield batch


def _is_image(item: Any) -> bool:
    """Return True for a single image, not for labels and batches."""
    return isinstance(item, str | Path | Image.Image) or (isinstance(item, Tensor | np.ndarray) and item.ndim == 3)


def _digest(pixels: np.ndarray[Any, Any]) -> str:
    return hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=12).hexdigest()
