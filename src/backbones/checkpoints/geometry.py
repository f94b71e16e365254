"""Infer a ViT's geometry from its tensors, and compare it with the named model's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from src.core.errors import UserError

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Geometry:
    """Geometry inferred from the tensors alone, except `heads`, which they do not reveal.

    Attributes:
        patch_size: Side of a patch in pixels.
        width: D, the length of a token.
        depth: Number of blocks.
        heads: Attention heads; None if neither file nor family tells.
        mlp_width: Hidden width of a block's MLP (of each half, where it is gated).
        gated_mlp: SwiGLU instead of a plain MLP.
        layer_scale: True if blocks scale their residuals.
        class_tokens: 1; 2 for UDI.
        registers: Register tokens.
        positions: `absolute` (a learnt or fixed table), `rotary` or `none`.
        grid: Side of the square position table, in patches, or its rows and columns; None without a table.
        qkv_bias: True if the attention's projections have a bias.
    """

    patch_size: int
    width: int
    depth: int
    heads: int | None
    mlp_width: int
    gated_mlp: bool
    layer_scale: bool
    class_tokens: int
    registers: int
    positions: str
    grid: int | tuple[int, int] | None
    qkv_bias: bool

    @property
    def mlp_ratio(self) -> float:
        """MLP width over token width."""
        return self.mlp_width / self.width

    def __str__(self) -> str:
        mlp = f"{'SwiGLU' if self.gated_mlp else 'MLP'} ratio {self.mlp_ratio:.4g}"
        heads = "heads not recorded" if self.heads is None else f"{self.heads} heads"
        sides = self.grid if isinstance(self.grid, tuple) else (self.grid, self.grid)
        grid = f"position grid {sides[0]}×{sides[1]}" if self.grid else f"{self.positions} positions"
        return (
            f"patch {self.patch_size}, width {self.width}, depth {self.depth}, {heads}, {mlp}, {grid}, "
            f"{self.class_tokens} class token{'s' * (self.class_tokens > 1)}, {self.registers} registers, "
            f"{'with' if self.layer_scale else 'no'} layer scale, {'with' if self.qkv_bias else 'no'} qkv bias"
        )


def read_geometry(state: Mapping[str, Tensor], rotary: bool = False, heads: int | None = None) -> Geometry:
    """Geometry of a state dict in the plain names of `layouts` (shapes suffice: the tensors may be on meta).

    Args:
        state: Tensors under plain names, with or without gaps.
        rotary: True if the family uses rotary positions.
        heads: Attention heads, if known from elsewhere.

    Raises:
        UserError: If there is no patch embedding, or it is not a square convolution of an RGB image.
    """
    patch = state.get("patch_embed.proj.weight")
    if patch is None or patch.ndim != 4 or patch.shape[1] != 3 or patch.shape[2] != patch.shape[3]:
        found = "missing" if patch is None else str(tuple(patch.shape))
        raise UserError(f"patch_embed.proj.weight is {found}, expected [width, 3, patch, patch] (RGB, square patches)")
    blocks: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        match = _BLOCK.fullmatch(name)
        if match:
            blocks.setdefault(int(match.group(1)), {})[match.group(2)] = value
    first = blocks.get(min(blocks), {}) if blocks else {}
    gate, inner = first.get("mlp.fc1_g.weight"), first.get("mlp.fc1.weight")
    outer = first.get("mlp.fc2.weight")
    mlp_width = outer.shape[-1] if outer is not None and outer.ndim == 2 else 0
    packed = inner is not None and inner.ndim == 2 and inner.shape[0] == 2 * mlp_width > 0
    positions = state.get("pos_embed")
    class_token, registers = state.get("cls_token"), state.get("reg_token")
    class_tokens = _tokens(class_token)
    return Geometry(
        patch_size=patch.shape[-1],
        width=patch.shape[0],
        depth=1 + max(blocks, default=-1),
        heads=heads,
        mlp_width=mlp_width,
        gated_mlp=gate is not None or packed,
        layer_scale="ls1.gamma" in first,
        class_tokens=class_tokens,
        registers=_tokens(registers),
        positions="rotary" if rotary else "none" if positions is None else "absolute",
        grid=None if positions is None else square_grid(positions, class_tokens, _tokens(registers)),
        qkv_bias="attn.qkv.bias" in first,
    )


def square_grid(positions: Tensor, class_tokens: int, registers: int) -> int | None:
    """Side of a position table's grid, whose rows may start with those of the prefix tokens."""
    if positions.ndim != 3:
        return None
    rows = positions.shape[1]
    for prefix in (class_tokens, 0, class_tokens + registers):
        side = math.isqrt(max(rows - prefix, 0))
        if side > 0 and side * side == rows - prefix:
            return side
    return None


def differences(file: Geometry, model: Geometry) -> list[str]:
    """One line per difference between a file and a named model; position grids may differ."""
    lines = []
    for field in fields(Geometry):
        ours, theirs = getattr(file, field.name), getattr(model, field.name)
        if field.name == "grid" or ours == theirs or (field.name == "heads" and ours is None):
            continue
        lines.append(f"{field.name.replace('_', ' ')}: the file has {ours}, the model {theirs}")
    return lines


def _tokens(value: Tensor | None) -> int:
    return 0 if value is None else value.shape[1] if value.ndim == 3 else 1
