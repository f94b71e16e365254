"""UniAdapter and AdaptFormer: a bottleneck inside each block, around its frozen parts.

Shapes: D width · r rank · tokens `[B, T, D]`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from src.backbones.adapters.adapter import Adapter, switched_off
from src.core.errors import UserError
from src.core.numbers import check_number


class Bottleneck(nn.Module):
    """`s · (ReLU(x W_down + b_down) W_up + b_up)`, zero at initialisation.

    Args:
        width: D.
        rank: r.
        scale: s.
        norm: Normalise the input with its own LayerNorm.
        init: Initialisation of W_down; W_up and b_up always start at zero.
    """

    def __init__(self, width: int, rank: int, scale: float, norm: bool, init: Literal["kaiming", "normal"]) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        if init == "kaiming":
            nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        else:
            nn.init.normal_(self.down.weight, std=0.02)
        for start in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(start)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.scale * self.up(torch.relu(self.down(self.norm(tokens))))


class AdaptedBlock(nn.Module):
    """A frozen transformer block with a bottleneck between its parts, run in the block's order.

    Args:
        block: timm's `Block` or `EvaBlock`.
        bottleneck: The adapter.
        placement: `sequential`: on the residual stream after attention (paper, UniAdapter). `parallel`: reads the
            post-attention stream and is added to the MLP's output (UniAdapter's public code). `normed`: the same,
            but reads the MLP's input, after the block's second norm (AdaptFormer).
    """

    def __init__(
        self, block: Any, bottleneck: Bottleneck, placement: Literal["sequential", "parallel", "normed"]
    ) -> None:
        super().__init__()
        self.block: Any = block
        self.bottleneck = bottleneck
        self.placement = placement
        self.enabled = True

    def forward(self, tokens: Tensor, **options: Tensor) -> Tensor:
        if not self.enabled:
            return self.block(tokens, **options)
        block = self.block
        tokens = tokens + block.drop_path1(_scaled(block, 1, block.attn(block.norm1(tokens), **options)))
        if self.placement == "sequential":
            tokens = tokens + self.bottleneck(tokens)
        normed = block.norm2(tokens)
        output = tokens + block.drop_path2(_scaled(block, 2, block.mlp(normed)))
        if self.placement == "parallel":
            output = output + self.bottleneck(tokens)
        elif self.placement == "normed":
            output = output + self.bottleneck(normed)
        return output


def _scaled(block: Any, branch: int, values: Tensor) -> Tensor:
    """The block's layer scale: a module (`Block`), or a bare vector that may be missing (`EvaBlock`)."""
    if isinstance(block, EvaBlock):
        gamma = getattr(block, f"gamma_{branch}")
        return values if gamma is None else gamma * values
    return getattr(block, f"ls{branch}")(values)


def inner_block(block: Any) -> Any:
    """timm's block, with or without an adapter around it."""
    return block.block if isinstance(block, AdaptedBlock) else block


class _Wrapping(Adapter):
    """Base of the kinds that wrap each block in an `AdaptedBlock`."""

    def inject(self, trunk: Any) -> list[str]:
        blocks = self.adapted_blocks(trunk)
        for depth, block in blocks.items():
            if type(block) not in (Block, EvaBlock):
                raise UserError(
                    f"{self} supports timm's Block and EvaBlock, but blocks.{depth} is a {type(block).__name__}; "
                    "use LoRA or SLR, which only need linear layers"
                )
        for depth, block in blocks.items():
            trunk.blocks[depth] = self._wrap(block, trunk.embed_dim)
        return [f"blocks.{depth}" for depth in blocks]

    rank: int
    scale: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(f"{type(self).__name__}.scale", self.scale, open_left=True)

    @abstractmethod
    def _wrap(self, block: Any, width: int) -> AdaptedBlock: ...

    def remove(self, trunk: Any) -> None:
        self._adapted(trunk)
        for depth, block in enumerate(trunk.blocks):
            trunk.blocks[depth] = inner_block(block)

    def disabled(self, trunk: Any) -> AbstractContextManager[None]:
        return switched_off(self._adapted(trunk))

    def attenuate(self, trunk: Any, factor: float) -> None:
        for block in self._adapted(trunk):
            block.bottleneck.scale *= factor

    def weakened(self, trunk: Any, tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
        return {name: tensor * factor if ".up." in name else tensor for name, tensor in tensors.items()}

    def _adapted(self, trunk: Any) -> list[AdaptedBlock]:
        blocks = [block for block in trunk.blocks if isinstance(block, AdaptedBlock)]
        if not blocks:
            raise self._absent("adapted blocks")
        return blocks


@dataclass(frozen=True)
class UniAdapter(_Wrapping):
    """`x ← x + s · (ReLU(x W_down + b_down) W_up + b_up)` after every self-attention layer (paper; arXiv 2302.06605).

    Args:
        rank: r; 64 is our choice.
        scale: s; 0.1 is our choice.
        placement: `sequential`, on the residual stream (the paper's), or `parallel` to the MLP.
        norm: LayerNorm before the projection down; `none` is our choice.
        init: Initialisation of W_down; the rest starts at zero, so an untrained adapter is the identity bit for bit.
        first_block: Index of the first block that is adapted; 0, as in the paper, adapts all.
    """

    rank: int = 64
    scale: float = 0.1
    placement: Literal["sequential", "parallel"] = "sequential"
    norm: Literal["none", "layernorm"] = "none"
    init: Literal["kaiming", "normal"] = "kaiming"
    first_block: int = 0

    def _wrap(self, block: Any, width: int) -> AdaptedBlock:
        bottleneck = Bottleneck(width, self.rank, self.scale, self.norm == "layernorm", self.init)
        return AdaptedBlock(block, bottleneck.to(block.attn.proj.weight), self.placement)


@dataclass(frozen=True)
class AdaptFormer(_Wrapping):
    """A bottleneck parallel to the MLP that reads the MLP's normalised input (AdaptFormer, arXiv 2205.13535).

    Args:
        rank: r; 64 as in its paper.
        scale: s; 0.1 as in its paper.
        first_block: Index of the first block that is adapted.
    """

    rank: int = 64
    scale: float = 0.1
    first_block: int = 0

    def _wrap(self, block: Any, width: int) -> AdaptedBlock:
        bottleneck = Bottleneck(width, self.rank, self.scale, False, "kaiming")
        return AdaptedBlock(block, bottleneck.to(block.attn.proj.weight), "normed")
