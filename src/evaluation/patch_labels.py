"""Class counts of a mask in each cell of a grid.

Shapes: B images · C classes · H×W pixels · h×w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from src.core.errors import UserError


def label_counts(masks: Tensor, grid: tuple[int, int], num_classes: int, ignore_index: int) -> Tensor:
    """Count the labelled pixels of each cell by class.

    A pixel belongs to the cell that holds its centre. A cross-entropy of cell logits weighted by these counts therefore
    equals the pixel-wise one of logits upsampled by nearest neighbour.

    Args:
        masks: Class ids `[B, H, W]`.
        grid: Cells (h, w).
        num_classes: C.
        ignore_index: Ignore index of the masks.

    Returns:
        float32 `[B, C, h, w]`.

    Raises:
        UserError: If a mask holds an id that is neither a class nor the ignore id.
    """
    batch, height, width = masks.shape
    labelled = masks != ignore_index
    if bool((labelled & ((masks < 0) | (masks >= num_classes))).any()):
        raise UserError(
            f"a mask holds ids outside the classes 0 to {num_classes - 1} and the ignore id {ignore_index}: "
            f"found {torch.unique(masks).tolist()}"
        )
    rows, columns = (
        ((2 * torch.arange(pixels, device=masks.device) + 1) * cells) // (2 * pixels)
        for pixels, cells in zip((height, width), grid, strict=True)
    )
    cell = rows[:, None] * grid[1] + columns  # [H, W]
    image = torch.arange(batch, device=masks.device)[:, None, None]
    flat = (image * num_classes + masks) * (grid[0] * grid[1]) + cell  # [B, H, W], class-major, as in the result
    counts = torch.bincount(flat[labelled], minlength=batch * num_classes * grid[0] * grid[1])
    return counts.float().view(batch, num_classes, *grid)


def patch_fractions(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Soft labels of single patches, from counts `[B, C, h, w]`.

    Returns:
        Fractions of the labelled pixels, `[B, h·w, C]` (zero where there are none), and True for labelled patches, bool
        `[B, h·w]`.
    """
    patches = counts.flatten(2).transpose(1, 2)  # [B, h·w, C]
    total = patches.sum(-1, keepdim=True)
    return patches / total.clamp(min=1), total.squeeze(-1) > 0
