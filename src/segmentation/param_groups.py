"""Parameter groups of a segmentation: trainable parts, rates and regularisation (docs/method.md, section 10)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from timm.layers.drop import DropPath
from torch import nn

from src.backbones.adapters.bottleneck import inner_block
from src.backbones.backbone import Backbone
from src.backbones.parameter_groups import parameter_groups as groups_of
from src.core.errors import UserError


def freeze_unreached(backbone: Backbone, blocks: Sequence[int] | None, prefix_tokens: bool = True) -> None:
    """Freeze parts that the head does not read: they get no gradient, which DDP refuses.

    These are the blocks after the last one that it reads, and prefix tokens that are left out.

    Warns if a head that reads several blocks leaves out the last one: defaults are for a ViT with 12 blocks.

    Args:
        backbone: Its parameters' `requires_grad` is changed.
        blocks: As in `Backbone.feature_maps`; None for all.
        prefix_tokens: As in `Backbone.feature_maps`.
    """
    if not prefix_tokens:
        for token in ("cls_token", "reg_token"):
            parameter = getattr(backbone.trunk, token, None)
            if parameter is not None:
                parameter.requires_grad_(False)
    if blocks is None:
        return
    if len(blocks) > 1 and max(blocks) < backbone.depth - 1:
        quarters = [(quarter + 1) * backbone.depth // len(blocks) - 1 for quarter in range(len(blocks))]
        rank_zero_warn(
            f"the head reads blocks {list(blocks)} of {backbone.name}, which has {backbone.depth}: blocks after "
            f"{max(blocks)} are not used; to read all depths, set decoder.init_args.blocks to {quarters}"
        )
    for late in (*backbone.trunk.blocks[max(blocks) + 1 :], backbone.trunk.norm):
        late.requires_grad_(False)


def install_drop_path(backbone: Backbone, rate: float) -> None:
    """Skip residual branches at random in training (stochastic depth, arXiv 1603.09382), deeper blocks more often.

    Args:
        backbone: Its blocks are changed in place; evaluation is not affected.
        rate: Rate of the last block; linear from 0 at the first one.

    Raises:
        UserError: If the rate is not in [0, 1), or a block does not support it.
    """
    if not 0 <= rate < 1:
        raise UserError(f"drop_path: expected a share from 0 to below 1, found {rate}")
    rates = torch.linspace(0, rate, backbone.depth).tolist()
    for depth, (block, probability) in enumerate(zip(map(inner_block, backbone.trunk.blocks), rates, strict=True)):
        if not (hasattr(block, "drop_path1") and hasattr(block, "drop_path2")):
            raise UserError(
                f"drop_path: {backbone.name}'s blocks.{depth} is a {type(block).__name__}, which has no drop_path1 and "
                "drop_path2; set drop_path to 0"
            )
        if probability > 0:
            block.drop_path1, block.drop_path2 = DropPath(probability), DropPath(probability)


def parameter_groups(
    head: nn.Module, backbone: Backbone, backbone_lr: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group every trainable parameter by its factor on the learning rate and its weight decay.

    A head's factor is 1; the backbone's is `backbone_lr · layer_decay^(L + 1 − l)`, where its L blocks are layers 1 to
    L, embeddings are layer 0, and the final norm is layer L + 1 (BEiT, arXiv 2106.08254). Weight decay follows
    `src.backbones.parameter_groups`.

    Returns:
        Groups with `params`, `weight_decay` and `lr_factor`.
    """

    def factor(name: str) -> float:
        if not name.startswith("backbone.trunk."):
            return 1.0
        layer = layer_of(name.removeprefix("backbone.trunk."), backbone.depth)
        return backbone_lr * float(layer_decay ** (backbone.depth + 1 - layer))

    groups = groups_of(nn.ModuleDict({"head": head, "backbone": backbone}), factor)
    return [{**group, "weight_decay": weight_decay * group["decayed"]} for group in groups]


def layer_of(name: str, depth: int) -> int:
    """Layer of a trunk's parameter: 0 for embeddings, 1 to `depth` in blocks, one more for the final norm."""
    if block := re.match(r"blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    return depth + 1 if name.startswith(("norm.", "fc_norm.")) else 0
