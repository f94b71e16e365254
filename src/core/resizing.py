"""Resize images and class scores in one place."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resize_scores(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize class scores `[B, C, h', w']`, bilinear between cell centres, in float32 at least.

    Not in half precision, where bfloat16 (8 bits) would tie different classes near a border.
    """
    if scores.dtype.itemsize < 4:
        scores = scores.float()
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize RGB `[B, 3, H, W]`, bicubic with antialiasing; unchanged if it has the size."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(unit_range(images), size=size, mode="bicubic", antialias=True).clamp(0, 1)


def unit_range(images: Tensor) -> Tensor:
    """Convert RGB to floats in [0, 1]: uint8 is divided by 255, floats are unchanged."""
    return images if images.is_floating_point() else images.float() / 255
