"""Build a timm model around given weights, without extra memory."""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from src.backbones.checkpoints.choosing import Network
from src.backbones.checkpoints.fitting import meta_model
from src.backbones.checkpoints.loading import LoadedWeights, load_weights
from src.backbones.checkpoints.position_grid import Grid
from src.backbones.position_embedding import OriginalPositions
from src.core.errors import UserError

Positions = Literal["timm", "original"]


def build_trunk(
    name: str,
    weights: str | LoadedWeights,
    network: Network = "teacher",
    second_class_token: bool = True,
    positions: Positions = "timm",
    prefix: str | None = None,
    position_grid: Grid | None = None,
) -> nn.Module:
    """The timm model `name` with `weights`, on the CPU, fp32, any image size.

    Built on the meta device, then assigned: memory grows only by the weights. Buffers outside the file (DINOv3's rotary
    periods) are recomputed. `pretrained_cfg["mean"]` and `["std"]` are those of these weights.

    Args:
        name: A timm model name.
        weights: As in `load_weights`, or its result.
        network: As in `load_weights`.
        second_class_token: As in `load_weights`; the kept token is the first after the class token.
        positions: Resampling of the position table to another grid: as timm does, or as the authors of DINO, iBOT, UDI
            and DINOv2 (without registers) do; see `position_embedding.resample`.
        prefix: As in `load_weights`.
        position_grid: As in `load_weights`.

    Raises:
        MissingFile: As `load_weights`.
        UserError: As `load_weights`; or original positions for a model that has no position table.
    """
    if isinstance(weights, str):
        loaded = load_weights(weights, name, network, second_class_token, prefix, position_grid)
    else:
        loaded = weights
    assert loaded.model_name == name, f"weights fitted to {loaded.model_name} were given for {name}"
    trunk = meta_model(name, loaded.options)
    trunk.load_state_dict(loaded.state, strict=True, assign=True)
    _compute_buffers(trunk)
    if loaded.periods is not None:
        _set_periods(trunk, loaded.periods, name)
    if loaded.epsilon is not None:
        for module in trunk.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = loaded.epsilon
    if positions == "original":
        if type(trunk) is not VisionTransformer or trunk.pos_embed is None:
            raise UserError(f"positions: original is for ViTs with a position table; {name} has none, use timm")
        trunk.__class__ = OriginalPositions
    mean, std = loaded.normalisation
    trunk.creation_options = dict(loaded.options)  # type: ignore[assignment]  # for timm.create_model
    trunk.second_class_token = "reg_tokens" in loaded.options  # type: ignore[assignment]
    trunk.pretrained_cfg = {**trunk.pretrained_cfg, "mean": mean, "std": std}  # type: ignore[dict-item, assignment]
    return trunk


def _set_periods(trunk: nn.Module, periods: Tensor, name: str) -> None:
    """Use the official file's rotary periods, which are rounded to bfloat16, in place of timm's fp32 ones.

    Raises:
        UserError: If they differ from this model's by more than the rounding.
    """
    rope: Any = getattr(trunk, "rope", None)
    if rope is None or rope.periods.shape != periods.shape or not torch.allclose(rope.periods, periods, rtol=1e-2):
        raise UserError(f"the file's rotary periods ({periods.flatten()[:4].tolist()}, …) are not those of {name}")
    rope.periods = periods.clone()


def _compute_buffers(trunk: nn.Module) -> None:
    """Allocate and compute the buffers that are not in the state dict."""
    for module in trunk.modules():
        lost = [key for key, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        for key in lost:
            setattr(module, key, torch.empty_like(getattr(module, key), device="cpu"))
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()  # type: ignore[operator]
        elif lost:
            raise UserError(f"{type(module).__name__} does not say how to compute {', '.join(lost)}; timm 1.0.24 does")
