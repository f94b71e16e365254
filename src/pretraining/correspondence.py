"""Correspondence between views, from their geometry alone: patch centres, back-tracking the crops, interpolation.

Shapes: N = h·w patches of a view · M points · C channels; boxes `[..., 4]` as (y0, x0, y1, x1) in the image's unit
square.
"""

from __future__ import annotations

import torch
from torch import Tensor


def patch_centres(boxes: Tensor, flips: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where on the image the centre of each patch of a view lies.

    Args:
        boxes: `[..., 4]`, (y0, x0, y1, x1).
        flips: `[...]`, bool.
        grid: Patches (h, w) of the view.

    Returns:
        `[..., h·w, 2]`, (y, x) in the same coordinates as the boxes.
    """
    height, width = grid
    rows = (torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5) / height
    columns = (torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5) / width
    y, x = (axis.reshape(-1) for axis in torch.meshgrid(rows, columns, indexing="ij"))  # [N]
    x = torch.where(flips[..., None], 1 - x, x)
    y0, x0, y1, x1 = (edge[..., None] for edge in boxes.unbind(-1))
    return torch.stack(((y0 + y * (y1 - y0)).expand(x.shape), x0 + x * (x1 - x0)), dim=-1)


def locate(points: Tensor, boxes: Tensor, flips: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Find image points in the patch grid of another view ("back-tracking the crop").

    Args:
        points: `[..., N, 2]`, (y, x) on the image.
        boxes: `[..., 4]` of the view to look in.
        flips: `[...]`, bool, of the same view.
        grid: Patches (h, w) of that view.

    Returns:
        Positions `[..., N, 2]` as (row, column) in units of patches, 0 at the centre of the first patch; and
        whether each point lies inside the view, bool `[..., N]`.
    """
    y0, x0, y1, x1 = (edge[..., None] for edge in boxes.unbind(-1))
    y, x = (points[..., 0] - y0) / (y1 - y0), (points[..., 1] - x0) / (x1 - x0)  # unit square of the view
    inside = (y >= 0) & (y <= 1) & (x >= 0) & (x <= 1)
    x = torch.where(flips[..., None], 1 - x, x)
    return torch.stack((y * grid[0] - 0.5, x * grid[1] - 0.5), dim=-1), inside


def sample_bilinear(values: Tensor, positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Read a patch map between its patches.

    Args:
        values: `[..., N, C]`, one vector per patch.
        positions: `[..., M, 2]`, (row, column) in units of patches; outside the outermost centres the edge is kept.
        grid: (h, w) with h·w = N.

    Returns:
        `[..., M, C]`.
    """
    height, width = grid
    row, column = positions[..., 0].clamp(0, height - 1), positions[..., 1].clamp(0, width - 1)
    top, left = row.floor(), column.floor()
    down, right = (row - top).to(values.dtype)[..., None], (column - left).to(values.dtype)[..., None]
    top, left = top.long(), left.long()
    bottom, beyond = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)

    def take(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows * width + columns)[..., None].expand(*rows.shape, values.shape[-1])
        return values.gather(-2, index)

    upper = take(top, left) * (1 - right) + take(top, beyond) * right
    lower = take(bottom, left) * (1 - right) + take(bottom, beyond) * right
    return upper * (1 - down) + lower * down
