"""Interpolate position tables to any grid.

Shapes: P prefix rows · N = rows·columns patches of the table · h·w patches of the target grid · D width.
"""

from __future__ import annotations

import math

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch import cat as concatenate
from torch.nn import functional as F

from src.core.errors import UserError


def resample(
    table: Tensor,
    grid: tuple[int, int],
    prefix: int,
    original: bool = False,
    table_grid: tuple[int, int] | None = None,
) -> Tensor:
    """Resample a position table to another grid.

    Args:
        table: `[1, P + N, D]`.
        grid: Target (h, w) in patches.
        prefix: P, rows of prefix tokens; they are kept.
        original: Resample as the authors of DINO, iBOT, UDI and of DINOv2 without registers do: bicubic without
            antialiasing, by the scale factors (h + 0.1) / rows and (w + 0.1) / columns, which also shift the sampling
            points a little. Otherwise as timm does: bicubic with antialiasing, to the size.
        table_grid: Rows and columns of the table; None for a square.

    Returns:
        `[1, P + h·w, D]`; the table itself if it has this grid already.

    Raises:
        UserError: If N is not a square, or contradicts `table_grid`.
    """
    side = math.isqrt(table.shape[1] - prefix)
    rows, columns = table_grid or (side, side)
    if rows * columns != table.shape[1] - prefix:
        raise UserError(f"position table {tuple(table.shape)} with {prefix} prefix rows is not a {rows}×{columns} grid")
    if grid == (rows, columns):
        return table
    patches = table[:, prefix:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2).float()  # [1, D, rows, columns]
    if original:
        factors = [(wanted + 0.1) / given for wanted, given in zip(grid, (rows, columns), strict=True)]
        patches = F.interpolate(patches, scale_factor=factors, mode="bicubic")
    else:
        patches = F.interpolate(patches, size=grid, mode="bicubic", antialias=True)
    resampled = patches.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)  # [1, h·w, D]
    return concatenate([table[:, :prefix], resampled], dim=1)


class OriginalPositions(VisionTransformer):
    """timm's ViT with its position table resampled as in the original DINO code; everything else is inherited.

    `build_trunk` replaces a built model's class by this one: timm's constructors by name offer no choice of class.
    """

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patch embeddings `[B, h, w, D]` → tokens `[B, P + h·w, D]` with positions."""
        tokens = x.flatten(1, 2)
        prefix = [token.expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        rows = 0 if self.no_embed_class else self.num_prefix_tokens
        assert self.pos_embed is not None, "build_trunk gives this class only to models with a position table"
        grid, table_grid = (x.shape[1], x.shape[2]), self.patch_embed.grid_size
        table = resample(self.pos_embed, grid, rows, original=True, table_grid=table_grid)
        if self.no_embed_class:
            tokens = concatenate([*prefix, tokens + table], dim=1)
        else:
            tokens = concatenate([*prefix, tokens], dim=1) + table
        return self.pos_drop(tokens)
