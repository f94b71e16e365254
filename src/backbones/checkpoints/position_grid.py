"""Rows and columns of a position table, which its length does not determine (9×16 and 12×12 are both 144).

A given grid has priority; a fixed sine-cosine table reveals its own; otherwise a square is assumed, unless the model,
the configuration next to the file or the table's values contradict it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from src.backbones.checkpoints.geometry import Geometry, square_grid
from src.core.errors import UserError

Grid = tuple[int, int]

_WIDEST = 4  # largest ratio of sides of the grids considered (our choice)
_SMOOTHER = 0.5  # a grid whose rows are this much more similar than a square's contradicts the square (our choice)


def settle_grid(
    table: Tensor | None, geometry: Geometry, stated: Grid | None, model: Grid, config: Mapping[str, Any]
) -> Grid | None:
    """Rows and columns of a file's position table; None without a table.

    Args:
        table: `[1, prefix rows + N, D]`, or None.
        geometry: Of the file.
        stated: `position_grid` of the configuration.
        model: The grid that the named model is built for.
        config: `config.json` next to the file, or empty.

    Raises:
        UserError: If the given grid does not fit, or a grid has to be given.
    """
    if table is None:
        if stated is not None:
            raise UserError(f"position_grid {_shown(stated)} is stated, but there is no position table; leave it out")
        return None
    rows = table.shape[1]
    prefixes = (geometry.class_tokens, 0, geometry.class_tokens + geometry.registers)
    if stated is not None:
        if min(stated) < 1 or rows - math.prod(stated) not in prefixes:
            raise UserError(
                f"position_grid {_shown(stated)} is stated, but pos_embed has {rows} rows, {rows - prefixes[0]} of "
                f"them for patches{_proposals(rows - prefixes[0])}"
            )
        return stated
    for prefix in prefixes:
        for rows_first in (True, False):
            measured = sincos_grid(table[0, prefix:], rows_first)
            if measured is not None:
                return measured
    side = square_grid(table, geometry.class_tokens, geometry.registers)
    if side is None:
        if rows - math.prod(model) in prefixes:
            return model
        raise UserError(
            f"pos_embed has {rows} rows, {rows - prefixes[0]} of them for patches, which is not a square grid"
            f"{_proposals(rows - prefixes[0])}"
        )
    against = {
        "the model is built for": model,
        "config.json says": _configured(config, geometry.patch_size),
        "the order of its rows suggests": _smoother(table[0, rows - side * side :], side),
    }
    for why, grid in against.items():
        if grid is not None and grid[0] != grid[1] and math.prod(grid) == side * side:
            raise UserError(
                f"pos_embed has {side * side} rows for patches, which could be {side}×{side}, but {why} "
                f"{_shown(grid)}{_proposals(side * side, (grid, (side, side)))}"
            )
    return side, side


def sincos_grid(rows: Tensor, rows_first: bool) -> Grid | None:
    """The grid for which a table is the fixed sine-cosine one of MAE (columns first) or MoCo v3 (rows first), or None.

    Both are `[sin a, cos a, sin b, cos b]` of the two coordinates at frequencies 10000^(-4k/D).

    Args:
        rows: `[N, D]`, without prefix tokens.
        rows_first: True for MoCo v3's, False for MAE's.
    """
    count, width = rows.shape
    if rows.is_meta or width % 4 or count < 4:
        return None
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    values = rows.to(torch.float64)
    for height, across in _grids(count):
        y, x = (
            axis.flatten()
            for axis in torch.meshgrid(
                torch.arange(height, dtype=torch.float64), torch.arange(across, dtype=torch.float64), indexing="ij"
            )
        )
        halves = [torch.outer(axis, frequencies) for axis in ((y, x) if rows_first else (x, y))]
        expected = torch.cat([part for half in halves for part in (half.sin(), half.cos())], dim=1)  # [N, D]
        if torch.allclose(values, expected, atol=1e-2):
            return height, across
    return None


def _grids(count: int) -> Iterator[Grid]:
    """Every grid of at least two rows and columns with this number of patches."""
    yield from ((count // across, across) for across in range(2, count // 2 + 1) if count % across == 0)


def _smoother(patches: Tensor, side: int) -> Grid | None:
    """The grid whose vertical neighbours are much more similar than in the square, or None."""
    if patches.is_meta or not patches.is_floating_point():
        return None
    values = patches.float()

    def roughness(across: int) -> float:
        return float((values[across:] - values[:-across]).square().mean())

    grids = [grid for grid in _grids(side * side) if grid[1] != side and max(grid) <= _WIDEST * min(grid)]
    if not grids:
        return None
    best = min(grids, key=lambda grid: roughness(grid[1]))
    return best if roughness(best[1]) < _SMOOTHER * roughness(side) else None


def _configured(config: Mapping[str, Any], patch: int) -> Grid | None:
    """The grid of the image size in a configuration of Hugging Face's or timm's, or None."""
    timm_config, arguments = config.get("pretrained_cfg"), config.get("model_args")
    sizes = [
        config.get("image_size"),
        timm_config.get("input_size") if isinstance(timm_config, Mapping) else None,
        arguments.get("img_size") if isinstance(arguments, Mapping) else None,
    ]
    for size in sizes:
        if isinstance(size, list) and len(size) > 1 and all(isinstance(side, int) for side in size):
            height, width = size[-2:]
            if height != width:
                return height // patch, width // patch
    return None


def _proposals(count: int, grids: tuple[Grid, ...] = ()) -> str:
    """End of a message: the possible grids, and the option to set."""
    near = grids or tuple(grid for grid in _grids(count) if max(grid) <= _WIDEST * min(grid))[:6]
    some = " or ".join(f"[{height}, {width}]" for height, width in near) or "[rows, columns]"
    return f"; state rows and columns as position_grid: {some} (doctor: --position-grid ROWSxCOLUMNS)"


def _shown(grid: Grid) -> str:
    return f"{grid[0]}×{grid[1]}"
