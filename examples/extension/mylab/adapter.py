"""A scale and a shift after every norm of the blocks (SSF, arXiv 2210.08823)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.backbones.adapters import Adapter


class ScaledNorm(nn.Module):
    """A frozen norm with a scale and a shift that train; the identity at first."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm
        self.scale = nn.Parameter(torch.ones_like(norm.weight))
        self.shift = nn.Parameter(torch.zeros_like(norm.weight))
        self.enabled = True

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm(tokens)
        return normed * self.scale + self.shift if self.enabled else normed


@dataclass(frozen=True)
class ScaleShift(Adapter):
    """`x ← s · norm(x) + b`, in the first or in both norms of each block.

    Args:
        both: Also after the second norm.
    """

    both: bool = True

    def inject(self, trunk: Any) -> list[str]:
        names = ["norm1", "norm2"] if self.both else ["norm1"]
        for block in trunk.blocks:
            for name in names:
                setattr(block, name, ScaledNorm(getattr(block, name)))
        return [f"blocks.{depth}.{name}" for depth in range(len(trunk.blocks)) for name in names]

    def remove(self, trunk: Any) -> None:
        for block, name, scaled in self._places(trunk):
            setattr(block, name, scaled.norm)

    @contextmanager
    def disabled(self, trunk: Any) -> Iterator[None]:
        places = self._places(trunk)
        before = [scaled.enabled for _, _, scaled in places]
        for _, _, scaled in places:
            scaled.enabled = False
        try:
            yield
        finally:
            for (_, _, scaled), enabled in zip(places, before, strict=True):
                scaled.enabled = enabled

    def merge(self, trunk: Any) -> None:
        for block, name, scaled in self._places(trunk):
            merged = nn.LayerNorm(scaled.norm.normalized_shape, scaled.norm.eps)
            merged.weight = nn.Parameter((scaled.norm.weight * scaled.scale).detach(), requires_grad=False)
            merged.bias = nn.Parameter((scaled.norm.bias * scaled.scale + scaled.shift).detach(), requires_grad=False)
            setattr(block, name, merged)

    def _places(self, trunk: Any) -> list[tuple[nn.Module, str, ScaledNorm]]:
        found = [
            (block, name, norm)
            for block in trunk.blocks
            for name in ("norm1", "norm2")
            if isinstance(norm := getattr(block, name), ScaledNorm)
        ]
        if not found:
            raise self._absent("scaled norms")
        return found
