"""Check input images, and convert files, PIL images and arrays to tensors.

Shapes: B images · H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from datamodules.reading.images import read_image
from src.core.errors import MissingFile, UserError

ImageLike: TypeAlias = "str | Path | Image.Image | np.ndarray[Any, Any] | Tensor"
# Resampling overshoots the range of its pixels a little; ImageNet's normalisation maps black to −2 and white to 2.
_OVERSHOOT = 0.3


def check_batch(images: object, patch: int, name: str) -> None:
    """Check type and shape of a batch, without reading its values.

    Raises:
        UserError: If it is not a tensor `[B, 3, H, W]` with sides that are multiples of the patch.
    """
    expected = f"{name} expects a batch of RGB images, a tensor [B, 3, H, W]"
    if not isinstance(images, Tensor):
        raise UserError(
            f"{expected}, found {_described(images)}; convert each image with backbone.transform() and stack them, "
            "or call backbone.dense(image)"
        )
    shape = list(images.shape)
    if images.ndim == 3:
        raise UserError(f"{expected}, found {shape}, without a batch axis; pass images[None]")
    if images.ndim != 4:
        raise UserError(f"{expected}, found {shape}")
    channels, height, width = shape[1:]
    if not shape[0]:
        raise UserError(f"{expected}, found {shape}, a batch without images; leave empty batches out")
    if channels != 3:
        advice = {1: "repeat the grey channel, images.expand(-1, 3, -1, -1)", 4: "drop alpha, images[:, :3]"}
        last = "move the channels to the front, images.permute(0, 3, 1, 2)" if width in (1, 3, 4) else "choose three"
        raise UserError(f"{expected}, found {shape} with {channels} channels; {advice.get(channels, last)}")
    if height % patch or width % patch or not height or not width:
        raise UserError(
            f"image of {height}×{width} px: {name} needs sides that are multiples of its patch size {patch}; resize to "
            f"e.g. {nearest_multiple(height, patch)}×{nearest_multiple(width, patch)}"
        )


def readable_values(images: Tensor) -> bool:
    """Return True if values can be read: eager code, and tensors with data."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
        or torch.onnx.is_in_onnx_export()
        or images.is_meta
        or type(images) not in (Tensor, torch.nn.Parameter)  # fake tensors and other stand-ins
        or (images.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def check_range(images: Tensor) -> None:
    """Check that values are RGB as `Backbone` takes it; synchronises with the device.

    Raises:
        UserError: If floats are not in [0, 1], apart from the overshoot of resampling, or integers not in [0, 255].
    """
    if images.dtype == torch.uint8 or not images.numel():
        return
    if images.dtype == torch.bool or images.is_complex():
        raise UserError(f"expected images as uint8 or as floats in [0, 1], found {images.dtype}")
    values = images.detach() if images.is_floating_point() else images.long()  # uint16 has no minimum
    low, high = (value.item() for value in values.aminmax())
    found = f"found values from {low:.4g} to {high:.4g}"
    if not images.is_floating_point():
        if low < 0 or high > 255:
            raise UserError(f"expected {images.dtype} images in [0, 255], {found}; scale them to uint8")
    elif not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"expected images as floats in [0, 1], {found}; remove NaN and infinity first")
    elif high > 10:
        raise UserError(f"expected images as floats in [0, 1], {found}; divide by 255, or pass uint8")
    elif low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise UserError(
            f"expected images as floats in [0, 1], {found}, which look normalised; leave the normalisation out, since "
            "the backbone normalises with the mean and standard deviation of its own weights"
        )


def image_transform(patch: int, size: int | tuple[int, int] | None) -> Callable[[ImageLike], Tensor]:
    """Return a function from one image to a tensor `[3, H, W]`, RGB in [0, 1], sides multiples of the patch.

    Args:
        patch: Patch size in pixels.
        size: Shorter side in pixels, or (height, width); None keeps each image's own size. Sides are rounded to the
            nearest multiple of the patch.

    Returns:
        A function of a path, a PIL image, an array `[H, W]`, `[H, W, 1 | 3 | 4]`, or a tensor `[1 | 3 | 4, H, W]`,
        uint8 or float in [0, 1]. Grey is repeated, alpha dropped, and the orientation of photographs applied. Files are
        read as in training: of more than 8 bits a channel they are stretched from the image's own range.

    Raises:
        UserError: If the size is not positive; the function raises it for any other image.
    """
    sides = (size,) if isinstance(size, int) else size or ()
    if any(side < 1 for side in sides) or len(sides) > 2:
        raise UserError(f"expected a size in pixels, (height, width) or None, found {size!r}")

    def transform(image: ImageLike) -> Tensor:
        pixels = _to_tensor(image)
        height, width = pixels.shape[1:]
        wanted = (height, width)
        if len(sides) == 1:
            scale = sides[0] / min(height, width)
            wanted = (round(height * scale), round(width * scale))
        elif sides:
            wanted = (sides[0], sides[1])
        wanted = (nearest_multiple(wanted[0], patch), nearest_multiple(wanted[1], patch))
        if wanted == (height, width):
            return pixels
        return F.interpolate(pixels[None], wanted, mode="bicubic", antialias=True)[0].clamp(0, 1)

    return transform


def nearest_multiple(side: int, patch: int) -> int:
    """The nearest multiple of the patch, at least one patch."""
    return max(patch, round(side / patch) * patch)


def _to_tensor(image: ImageLike) -> Tensor:
    """`[3, H, W]`, float in [0, 1]."""
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise MissingFile(f"image {image} not found")
        image = read_image(Path(image))
    if isinstance(image, Image.Image):
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise UserError(f"expected an image of 8 bits a channel, found mode {image.mode}; scale it to 8 bits first")
        image = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "uif":
            raise UserError(f"expected an image as uint8 or as floats in [0, 1], found an array of {image.dtype}")
        kind = np.float32 if image.dtype.kind == "f" else image.dtype.newbyteorder("=")
        array = torch.tensor(np.ascontiguousarray(image[..., None] if image.ndim == 2 else image, dtype=kind))
        pixels = array.movedim(-1, 0) if array.ndim == 3 else array
        expected = "an array [H, W] or [H, W, 3]"
    elif isinstance(image, Tensor):
        pixels, expected = image.detach(), "a tensor [3, H, W]"
    else:
        raise UserError(f"expected a path, a PIL image, an array or a tensor, found {_described(image)}")
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4) or not pixels.numel():
        raise UserError(
            f"expected {expected}, found {list(image.shape)}; pass one image with its channels in that order"
        )
    check_range(pixels)
    pixels = pixels[:3].expand(3, -1, -1)
    return pixels.float().clamp(0, 1) if pixels.is_floating_point() else pixels.float() / 255


def _described(found: object) -> str:
    shape = getattr(found, "shape", None)
    name = type(found).__name__
    return f"a {name}" if shape is None else f"a {name} {list(shape)}"
