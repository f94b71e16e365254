"""Resizing of images and of class scores, the same wherever either is done."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resize_scores(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Class scores `[B, C, h', w']` at another size, bilinear between cell centres, in float32 at least.

    Half precision is left here: near a border, bfloat16 (8 bits) would tie classes that differ.
    """
    if scores.dtype.itemsize < 4:
        scores = scores.float()
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """RGB `[B, 3, H, W]` at another size, bicubic with antialiasing; as it is where the size is."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(unit_range(images), size=size, mode="bicubic", antialias=True).clamp(0, 1)


def unit_range(images: Tensor) -> Tensor:
    """RGB as floats in [0, 1]: uint8 divided by 255, floats as they are."""
    return images if images.is_floating_point() else images.float() / 255
