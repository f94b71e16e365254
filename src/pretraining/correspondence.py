"""Correspondence between views from their geometry alone: patch centres, crop coordinates, interpolation.

Shapes: N = h·w patches of a view · M points · C channels; boxes `[..., 4]` as (y0, x0, y1, x1) in the image's unit
square.
"""

from __future__ import annotations

import torch
from torch import Tensor


def patch_centres(boxes: Tensor, flips: Tensor, grid: tuple[int, int]) -> Tensor:
    """Image coordinates of each patch's centre in a view.

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
    """Locate image points in the patch grid of another view ("back-tracking the crop").

    Args:
        points: `[..., N, 2]`, (y, x) on the image.
        boxes: `[..., 4]` of that view.
        flips: `[...]`, bool, of that view.
        grid: Patches (h, w) of that view.

    Returns:
        Positions `[..., N, 2]` as (row, column) in units of patches, 0 at the centre of the first patch; and
        whether each point is inside the view, bool `[..., N]`.
    """
    y0, x0, y1, x1 = (edge[..., None] for edge in boxes.unbind(-1))
    y, x = (points[..., 0] - y0) / (y1 - y0), (points[..., 1] - x0) / (x1 - x0)  # unit square of the view
    inside = (y >= 0) & (y <= 1) & (x >= 0) & (x <= 1)
    x = torch.where(flips[..., None], 1 - x, x)
    return torch.stack((y * grid[0] - 0.5, x * grid[1] - 0.5), dim=-1), inside


def sample_bilinear(values: Tensor, positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a patch map bilinearly.

    Args:
        values: `[..., N, C]`, one vector per patch.
        positions: `[..., M, 2]`, (row, column) in units of patches; clamped to the outermost centres.
        grid: (h, w) with h·w = N.

    Returns:
        `[..., M, C]`.
    """
    (top, bottom, down), (left, beyond, right) = _neighbours(positions, grid, values.dtype)

    def take(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows * grid[1] + columns)[..., None].expand(*rows.shape, values.shape[-1])
        return values.gather(-2, index)

    upper = take(top, left) * (1 - right) + take(top, beyond) * right
    lower = take(bottom, left) * (1 - right) + take(bottom, beyond) * right
    return upper * (1 - down) + lower * down


def scatter_bilinear(values: Tensor, positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Distribute vectors over a patch map: the transpose of `sample_bilinear`, with the same positions and weights.

    Args:
        values: `[..., M, C]`.
        positions: `[..., M, 2]`, (row, column) in units of patches; clamped to the outermost centres.
        grid: (h, w) with h·w = N.

    Returns:
        `[..., N, C]`.
    """
    (top, bottom, down), (left, beyond, right) = _neighbours(positions, grid, values.dtype)
    spread = values.new_zeros(*values.shape[:-2], grid[0] * grid[1], values.shape[-1])
    for rows, vertical in ((top, 1 - down), (bottom, down)):
        for columns, horizontal in ((left, 1 - right), (beyond, right)):
            index = (rows * grid[1] + columns)[..., None].expand_as(values)
            spread = spread.scatter_add(-2, index, values * (vertical * horizontal))
    return spread


def _neighbours(positions: Tensor, grid: tuple[int, int], dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Along rows and columns: the previous patch, the next patch, and the weight `[..., 1]` of the latter."""
    axes = []
    for axis, side in enumerate(grid):
        at = positions[..., axis].clamp(0, side - 1)
        before = at.floor()
        axes.append((before.long(), (before.long() + 1).clamp(max=side - 1), (at - before).to(dtype)[..., None]))
    return axes
