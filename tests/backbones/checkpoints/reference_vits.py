"""Forward passes of the published ViT families, written from their definitions; timm is not used.

Shapes: B images · D width · H heads · N = h·w patches · E prefix tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

Linear = tuple[Tensor, Tensor | None]


@dataclass
class Layer:
    """One block's tensors, however the family's file spells them."""

    norm1: Linear
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    norm2: Linear
    mlp: Callable[[Tensor], Tensor]
    scale1: Tensor | None = None
    scale2: Tensor | None = None


@dataclass
class Reference:
    """A ViT by its definition.

    Attributes:
        positions: `[1, P + side², D]`, P = `position_rows`; None with rotary periods.
        late: Tokens that join between class token and patches after the positions were added (registers).
        interpolation: `antialias` (timm, DINOv2 with registers) or `dino` (scale factor with 0.1).
    """

    patch: Linear
    cls: Tensor
    positions: Tensor | None
    layers: list[Layer]
    norm: Linear
    heads: int
    epsilon: float = 1e-6
    late: Tensor | None = None
    interpolation: str = "antialias"
    periods: Tensor | None = None
    position_rows: int = field(default=1)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images `[B, 3, H, W]` → tokens `[B, E + N, D]` after the final norm."""
        weight, bias = self.patch
        maps = F.conv2d(images, weight, bias, stride=weight.shape[-1])
        grid = (maps.shape[2], maps.shape[3])
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(images), -1, -1), tokens], dim=1)
        if self.positions is not None:
            tokens = tokens + self._positions_at(grid)
        if self.late is not None:
            count = self.cls.shape[1]
            late = self.late.expand(len(images), -1, -1)
            tokens = torch.cat([tokens[:, :count], late, tokens[:, count:]], dim=1)
        for layer in self.layers:
            tokens = self._block(layer, tokens, grid)
        return self._norm(self.norm, tokens)

    def _positions_at(self, grid: tuple[int, int]) -> Tensor:
        rows, table = self.positions[:, : self.position_rows], self.positions[:, self.position_rows :]
        side = math.isqrt(table.shape[1])
        if grid == (side, side):
            return self.positions
        table = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if self.interpolation == "dino":
            factors = ((grid[0] + 0.1) / math.sqrt(side * side), (grid[1] + 0.1) / math.sqrt(side * side))
            table = F.interpolate(table, scale_factor=factors, mode="bicubic")
        else:
            table = F.interpolate(table, size=grid, mode="bicubic", antialias=True, align_corners=False)
        assert table.shape[2:] == grid
        return torch.cat([rows, table.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1)], dim=1)

    def _norm(self, parameters: Linear, tokens: Tensor) -> Tensor:
        centred = tokens - tokens.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return scaled * parameters[0] + parameters[1]

    def _block(self, layer: Layer, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        attended = self._attention(layer, self._norm(layer.norm1, tokens), grid)
        tokens = tokens + (attended if layer.scale1 is None else attended * layer.scale1)
        changed = layer.mlp(self._norm(layer.norm2, tokens))
        return tokens + (changed if layer.scale2 is None else changed * layer.scale2)

    def _attention(self, layer: Layer, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = (
            linear(part)(tokens).reshape(batch, count, self.heads, width // self.heads).transpose(1, 2)
            for part in (layer.query, layer.key, layer.value)
        )
        if self.periods is not None:
            query, key = self._rotate(query, grid), self._rotate(key, grid)
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // self.heads), dim=-1)
        return linear(layer.out)((weights @ value).transpose(1, 2).reshape(batch, count, width))

    def _rotate(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """DINOv3, patches only: angles 2π · coordinate / period, of patch centres in [-1, 1], rows first."""
        height, width = grid
        rows = 2 * (torch.arange(height) + 0.5) / height - 1
        columns = 2 * (torch.arange(width) + 0.5) / width - 1
        where = torch.stack([rows[:, None].expand(grid), columns[None].expand(grid)], dim=-1).reshape(-1, 2)
        angles = 2 * math.pi * where[:, :, None] / self.periods  # [N, 2, D / H / 4]
        angles = angles.flatten(1).repeat(1, 2)  # [N, D / H]
        prefix, patches = tokens[:, :, : -len(where)], tokens[:, :, -len(where) :]
        first, second = patches.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return torch.cat([prefix, patches * angles.cos() + turned * angles.sin()], dim=2)


def linear(parameters: Linear) -> Callable[[Tensor], Tensor]:
    weight, bias = parameters
    return lambda tokens: tokens @ weight.T + (0 if bias is None else bias)


def plain_mlp(first: Linear, second: Linear) -> Callable[[Tensor], Tensor]:
    def mlp(tokens: Tensor) -> Tensor:
        hidden = linear(first)(tokens)
        return linear(second)(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))

    return mlp


def gated_mlp(gate: Linear, inner: Linear, outer: Linear) -> Callable[[Tensor], Tensor]:
    def mlp(tokens: Tensor) -> Tensor:
        opened = linear(gate)(tokens)
        return linear(outer)(opened * torch.sigmoid(opened) * linear(inner)(tokens))

    return mlp
