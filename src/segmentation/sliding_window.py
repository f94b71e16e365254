"""Sliding-window placement and blending weights: one small matrix per window and axis.

Windows form a regular grid, and their weights are products of a vertical and a horizontal one, so blended, upsampled
scores are a sum over windows of `rows · scores · columnsᵀ`. Scores of windows are never upsampled to full resolution.

Shapes: I×J windows · C classes · r×s grid of one window's scores · n×m pixels of one tile.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """Windows along one side of an image, of equal length.

    Attributes:
        starts: First pixel of each window.
        length: Pixels of the image that a window covers.
        resized: Its length at the network's scale.
        padded: Length of the network's input: the next multiple of the patch size.
    """

    starts: list[int]
    length: int
    resized: int
    padded: int


def axis(side: int, crop: float, stride: float, scale: float, patch: int) -> Axis:
    """Windows of `crop` pixels, one every `stride`, at the network's scale; the last one ends with the image.

    Args:
        side: Side of the image, pixels.
        crop: Side of a window; a smaller image is one window.
        stride: At most `crop`.
        scale: Magnification of the network's input.
        patch: Patch size.
    """
    whole = crop >= side * scale
    length = side if whole else max(1, round(crop / scale))
    step = max(1, round(min(stride / scale, length)))
    resized = max(1, round(side * scale if whole else crop))
    starts = [*range(0, side - length, step), side - length]
    return Axis(starts, length, resized, math.ceil(resized / patch) * patch)


def centres(start: int, stop: int, size: int, side: int) -> Tensor:
    """Centres of pixels `start` to `stop` of `size`, in an image of `side` pixels; float64 `[n]`."""
    return (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (side / size)


def covering(windows: Axis, places: Tensor) -> range:
    """Windows that contain any of the (sorted) positions."""
    first, last = float(places[0]), float(places[-1])
    held = [i for i, start in enumerate(windows.starts) if start < last + 1e-9 and first < start + windows.length]
    return range(held[0], held[-1] + 1)


def matrices(windows: Axis, chosen: range, places: Tensor, cells: int) -> Tensor:
    """Weight of each score cell of each chosen window at each place, float64 `[I, n, cells]`; sums to 1 at a place.

    Within a window the interpolation is bilinear between cell centres; between windows the weight falls linearly from a
    window's middle to its border (our choice), where its context ends.
    """
    starts = torch.tensor([windows.starts[i] for i in chosen], dtype=torch.float64)
    offset = places - starts[:, None]  # [I, n]
    border = torch.minimum(offset, windows.length - offset)
    # above 0 on a border: a position on the border of all its windows has two
    weight = torch.where(border < -1e-9, 0, border.clamp_min(1e-6))
    weight = weight / weight.sum(dim=0)
    cell = offset * (windows.resized / windows.length * cells / windows.padded) - 0.5
    distance = (cell.clamp(0, cells - 1)[..., None] - torch.arange(cells)).abs()
    return weight[..., None] * (1 - distance).clamp_min(0)


def blend(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Scores of a tile, `[C, n, m]`, from those of its windows.

    Args:
        scores: `[I, J, C, r, s]`, float32 at least.
        rows: `[I, n, r]`, of `matrices`.
        columns: `[J, m, s]`.
    """
    with torch.autocast(scores.device.type, enabled=False):  # in bfloat16 neighbouring classes would tie
        return torch.einsum("iyr,ijcrs,jxs->cyx", rows.to(scores), scores, columns.to(scores))
