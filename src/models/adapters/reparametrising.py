"""LoRA and SLR: low-rank updates of frozen weights, which can be merged into them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from src.models.adapters.kind import AdapterKind

if TYPE_CHECKING:
    from src.models.backbone import Backbone

Target = Literal["q", "k", "v", "proj", "fc1", "fc2"]


def _layer_rows(block: Any, target: Target) -> tuple[Any, int, slice]:
    """The linear layer that holds a target, the index of its part and the rows of its weight (q, k, v are fused)."""
    attention, mlp = block.attn, block.mlp
    if target in ("q", "k", "v"):
        if attention.qkv is None:
            return getattr(attention, f"{target}_proj"), 0, slice(None)
        rows, part = attention.qkv.weight.shape[0] // 3, "qkv".index(target)
        return attention.qkv, part, slice(part * rows, (part + 1) * rows)
    layer = attention.proj if target == "proj" else getattr(mlp, target, None)
    if layer is None:
        raise ValueError(f"{type(mlp).__name__} has no layer {target}; choose other targets for this trunk")
    return layer, 0, slice(None)


class LowRankUpdate(nn.Module):
    """Weight reparametrisation: `W ← W + scale · B A` on chosen rows, optionally `diag(out) W diag(in)` first.

    Args:
        weight: The frozen weight `[out, in]`.
        rows: Slices of rows, each with its own A `[r, in]` (Kaiming) and B `[rows, r]` (zero).
        rank: r.
        scale: Factor of the update.
        scaling: Also learn a scale per input and per output, both starting at one.
    """

    def __init__(self, weight: Tensor, rows: list[slice], rank: int, scale: float, scaling: bool) -> None:
        super().__init__()
        self.rows, self.scale, self.enabled = rows, scale, True
        counts = [len(range(*part.indices(weight.shape[0]))) for part in rows]
        self.down = nn.ParameterList([torch.empty(rank, weight.shape[1]) for _ in rows])
        self.up = nn.ParameterList([torch.zeros(count, rank) for count in counts])
        for start in self.down:
            nn.init.kaiming_uniform_(start, a=5**0.5)
        self.scale_in = nn.Parameter(torch.ones(weight.shape[1])) if scaling else None
        self.scale_out = nn.Parameter(torch.ones(weight.shape[0])) if scaling else None

    def forward(self, weight: Tensor) -> Tensor:
        if not self.enabled:
            return weight
        updated = weight
        if self.scale_in is not None and self.scale_out is not None:
            updated = self.scale_out[:, None] * weight * self.scale_in
        deltas = [torch.zeros_like(weight[:0])]
        position = 0
        for part, down, up in zip(self.rows, self.down, self.up, strict=True):
            start, stop, _ = part.indices(weight.shape[0])
            deltas += [torch.zeros_like(weight[position:start]), self.scale * (up @ down)]
            position = stop
        deltas.append(torch.zeros_like(weight[position:]))
        return updated + torch.cat(deltas)


class _Reparametrising(AdapterKind):
    """Kinds that reparametrise the weights of linear layers."""

    rank: int
    targets: tuple[Target, ...]

    @property
    @abstractmethod
    def update_scale(self) -> float: ...

    _scaling = False

    def _install(self, trunk: Any) -> list[str]:
        places = []
        for depth, block in enumerate(trunk.blocks):
            layers: dict[Any, list[tuple[int, slice]]] = {}
            for target in self.targets:
                layer, part, rows = _layer_rows(block, target)
                layers.setdefault(layer, []).append((part, rows))
                places.append(f"blocks.{depth}.{target}")
            for layer, parts in layers.items():
                ordered = [rows for _, rows in sorted(parts, key=lambda part: part[0])]
                update = LowRankUpdate(layer.weight, ordered, self.rank, self.update_scale, self._scaling)
                parametrize.register_parametrization(layer, "weight", update)
        return places

    def uninstall(self, backbone: Backbone) -> None:
        self._fold(backbone, keep=False)

    def merge(self, backbone: Backbone) -> None:
        self._fold(backbone, keep=True)
        backbone.adapter, backbone.adapter_names = None, ()

    @staticmethod
    def _fold(backbone: Backbone, keep: bool) -> None:
        layers: list[Any] = [m for m in backbone.trunk.modules() if parametrize.is_parametrized(m, "weight")]
        for layer in layers:
            layer.parametrizations["weight"][0].enabled = keep
            original = layer.parametrizations["weight"].original
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=keep)
            if not keep:
                layer.weight = original
            layer.weight.requires_grad_(False)

    @contextmanager
    def disabled(self, backbone: Backbone) -> Iterator[None]:
        updates = [module for module in backbone.trunk.modules() if isinstance(module, LowRankUpdate)]
        for update in updates:
            update.enabled = False
        try:
            yield
        finally:
            for update in updates:
                update.enabled = True


@dataclass(frozen=True)
class LoRA(_Reparametrising):
    """`W ← W + (alpha / rank) · B A` (LoRA, arXiv 2106.09685).

    Args:
        rank: r; 8 is our choice.
        alpha: Numerator of the update's scale; 16 is our choice.
        targets: Which projections; q and v as in its paper.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[Target, ...] = ("q", "v")

    @property
    def update_scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True)
class SLR(_Reparametrising):
    """Scaled low rank: `W ← diag(s_out) W diag(s_in) + B A` (Scheibenreif et al. 2024).

    Args:
        rank: r; 8 is our choice.
        targets: Which linear layers; all of a block's.
    """

    rank: int = 8
    targets: tuple[Target, ...] = ("q", "k", "v", "proj", "fc1", "fc2")
    _scaling = True

    @property
    def update_scale(self) -> float:
        return 1.0
