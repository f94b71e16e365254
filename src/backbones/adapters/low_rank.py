"""LoRA and SLR: low-rank updates of frozen weights, which can be merged into them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn.utils import parametrize

from src.backbones.adapters.adapter import Adapter, switched_off
from src.backbones.adapters.low_rank_layer import LowRankLinear, LowRankUpdate
from src.core.errors import UserError
from src.core.numbers import check_number

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
        raise UserError(f"{type(mlp).__name__} has no layer {target}; choose other targets for this trunk")
    return layer, 0, slice(None)


class Part(NamedTuple):
    """Update of one target.

    Attributes:
        depth: Block.
        target: As in `LoRA.targets`.
        layer: Name of its linear layer in the block.
        rows: Rows of the layer's weight.
        down: A `[r, in]`.
        up: B `[rows, r]`.
    """

    depth: int
    target: Target
    layer: str
    rows: slice
    down: Tensor
    up: Tensor


class _Reparametrising(Adapter):
    """Base of the kinds that reparametrise the weights of linear layers."""

    rank: int
    targets: tuple[Target, ...]

    @property
    @abstractmethod
    def update_scale(self) -> float: ...

    _scaling = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(f"{type(self).__name__}.alpha", self.update_scale, open_left=True)
        if len(set(self.targets)) < len(self.targets):
            raise UserError(f"{type(self).__name__}: targets {self.targets} name a layer twice; name each once")

    def inject(self, trunk: Any) -> list[str]:
        places = []
        for depth, block in self.adapted_blocks(trunk).items():
            layers: dict[Any, list[tuple[int, slice]]] = {}
            for target in self.targets:
                layer, part, rows = _layer_rows(block, target)
                layers.setdefault(layer, []).append((part, rows))
                places.append(f"blocks.{depth}.{target}")
            for layer, parts in layers.items():
                ordered = [rows for _, rows in sorted(parts, key=lambda part: part[0])]
                update = LowRankUpdate(layer.weight, ordered, self.rank, self.update_scale, self._scaling)
                if type(layer) is nn.Linear:
                    layer.__class__ = LowRankLinear
                parametrize.register_parametrization(layer, "weight", update.to(layer.weight))
        return places

    def remove(self, trunk: Any) -> None:
        self._fold(trunk, keep=False)

    def merge(self, trunk: Any) -> None:
        self._fold(trunk, keep=True)

    def attenuate(self, trunk: Any, factor: float) -> None:
        for update in self._updates(trunk):
            update.strength *= factor

    def weakened(self, trunk: Any, tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
        if self._scaling:  # W and its scales are multiplied, and half of a product is not the product of halves
            return super().weakened(trunk, tensors, factor)
        return {name: tensor * factor if ".up." in name else tensor for name, tensor in tensors.items()}

    def _fold(self, trunk: Any, keep: bool) -> None:
        """Restore plain weights, updated or original.

        Not by torch's `remove_parametrizations`, which writes to the frozen weight, shared with the teacher, and
        changes the layer's class, shared with deep copies.
        """
        layers: list[Any] = [m for m in trunk.modules() if parametrize.is_parametrized(m, "weight")]
        if not layers:
            raise self._absent("reparametrised weights")
        for layer in layers:
            update, weight = layer.parametrizations["weight"][0], layer.parametrizations["weight"].original
            if keep:
                update.enabled = True
                weight = nn.Parameter(update(weight).detach())
            plain = parametrize.type_before_parametrizations(layer)
            layer.__class__ = nn.Linear if plain is LowRankLinear else plain
            del layer.parametrizations
            layer.weight = weight.requires_grad_(False)

    def disabled(self, trunk: Any) -> AbstractContextManager[None]:
        return switched_off(self._updates(trunk))

    def _updates(self, trunk: Any) -> list[LowRankUpdate]:
        updates = [module for module in trunk.modules() if isinstance(module, LowRankUpdate)]
        if not updates:
            raise self._absent("reparametrised weights")
        return updates


@dataclass(frozen=True)
class LoRA(_Reparametrising):
    """`W ← W + (alpha / rank) · B A` (LoRA, arXiv 2106.09685).

    Args:
        rank: r; 8 is our choice.
        alpha: Numerator of the update's scale; 16 is our choice.
        targets: Projections to update; q and v as in its paper.
        first_block: Index of the first block that is adapted.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[Target, ...] = ("q", "v")
    first_block: int = 0

    @property
    def update_scale(self) -> float:
        return self.alpha / self.rank

    def parts(self, trunk: Any) -> list[Part]:
        """The update of each target in each adapted block of a trunk with this kind installed."""
        found = []
        for depth, block in self.adapted_blocks(trunk).items():
            for target in sorted(self.targets, key=("q", "k", "v", "proj", "fc1", "fc2").index):
                layer, _, rows = _layer_rows(block, target)
                update = layer.parametrizations["weight"][0]
                index = update.rows.index(rows)
                name = next(name for name, module in block.named_modules() if module is layer)
                found.append(Part(depth, target, name, rows, update.down[index], update.up[index]))
        return found


@dataclass(frozen=True)
class SLR(_Reparametrising):
    """Scaled low rank: `W ← diag(s_out) W diag(s_in) + B A` (Scheibenreif et al. 2024).

    Args:
        rank: r; 8 is our choice.
        targets: Linear layers to update; all of a block's.
        first_block: Index of the first block that is adapted.
    """

    rank: int = 8
    targets: tuple[Target, ...] = ("q", "k", "v", "proj", "fc1", "fc2")
    first_block: int = 0
    _scaling = True

    @property
    def update_scale(self) -> float:
        return 1.0
