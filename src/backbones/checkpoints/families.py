"""Recognise the self-supervised method of a checkpoint, and settings that its tensors do not reveal."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from src.backbones.checkpoints.layouts import Place, Plain
from src.backbones.checkpoints.position_grid import sincos_grid
from src.backbones.checkpoints.reading import Source
from src.core.errors import UserError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

UNKNOWN = "ViT (timm names)"
UNKNOWN_OPEN_MMLAB = "ViT (OpenMMLab)"

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Family:
    """Pre-training method of a file, and the settings that follow from it.

    Attributes:
        name: Display name: `DINO`, `UDI`, `DINOv2 (Hugging Face)`, …
        normalisation: Mean and standard deviation of RGB in [0, 1] that the weights were trained with; None to take
            those of the named timm model.
        heads: Attention heads, if known from the family or a configuration file.
        epsilon: Epsilon of the layer norms, if it differs from timm's for the same architecture.
        rotary: True for rotary positions.
    """

    name: str
    normalisation: Normalisation | None
    heads: int | None = None
    epsilon: float | None = None
    rotary: bool = False


def recognise(source: Source, place: Place, plain: Plain, names: Collection[str]) -> Family:
    """Recognise the family by key names, prefixes and, for bare encoders, the position table.

    Args:
        source: The file, with the configuration next to it.
        place: Location of the ViT in the file.
        plain: Its tensors.
        names: All names in the file.

    Raises:
        UserError: If the configuration next to the file has an activation other than GELU.
    """
    config = _matching_config(source, plain)
    activation = config.get("hidden_act", "gelu")
    if activation not in ("gelu", "silu"):  # silu: the gate of DINOv3's larger models
        raise UserError(
            f"{source.path}: its config.json says activation {activation}; timm's models of this kind use gelu"
        )
    name = _name(place, plain, names)
    heads = config.get("num_attention_heads")
    if heads is None and plain.periods is not None and plain.periods.numel():
        heads = plain.state["patch_embed.proj.weight"].shape[0] // (4 * plain.periods.numel())
    if heads is None and name.startswith("MoCo v3") and plain.state["patch_embed.proj.weight"].shape[0] == 384:
        heads = 12  # its ViT-S has 12 heads of 32; everyone else's has 6 of 64
    epsilon = config.get("layer_norm_eps")
    if epsilon is None and name in ("ViT (Hugging Face)", "MAE (Hugging Face)"):
        epsilon = 1e-12
    return Family(name, _normalisation(name, source, config, names), heads, epsilon, name.startswith("DINOv3"))


def _name(place: Place, plain: Plain, names: Collection[str]) -> str:
    state, has = plain.state, _Names(names)
    if place.spelling == "Hugging Face DINOv3":
        return "DINOv3 (Hugging Face)"
    if place.spelling == "Hugging Face":
        if has(r"(^|\.)decoder\.decoder_"):
            return "MAE (Hugging Face)"
        return "DINOv2 (Hugging Face)" if "blocks.0.ls1.gamma" in state else "ViT (Hugging Face)"
    if place.spelling == "OpenMMLab":
        return _open_mmlab(state, has)
    if has(r"^(.*\.)?storage_tokens$|rope_embed\.periods$"):
        return "DINOv3"
    if "reg_token" in state and "pos_embed" not in state:
        return "DINOv3 (timm)"
    if "cls_token" in state and state["cls_token"].shape[1:2] == (2,):
        return "UDI"
    if "base_encoder." in place.prefix or _sincos(state, rows_first=True):
        return "MoCo v3"
    if has(r"(^|\.)decoder_embed\.") or _sincos(state, rows_first=False):
        return "MAE"
    if has(r"(^|\.)(masked_embed$|head\.last_layer2\.|ibot_loss\.|ibot_head\.)") and "blocks.0.ls2.gamma" not in state:
        return "iBOT"
    if has(r"(^|\.)(register_tokens|mask_token)$") and "blocks.0.ls1.gamma" in state:
        return "DINOv2"
    if "blocks.0.ls1.gamma" in state:
        return "DINOv2 (timm)"
    if has(r"(^|\.)(teacher|student)\.|(^|\.)head\.(0\.)?last_layer\."):
        return "DINO"
    return UNKNOWN


def _open_mmlab(state: Mapping[str, Tensor], has: _Names) -> str:
    if _sincos(state, rows_first=True):
        return "MoCo v3 (OpenMMLab)"
    if has(r"(^|\.)decoder_embed\.") or _sincos(state, rows_first=False):
        return "MAE (OpenMMLab)"
    return "DINOv2 (OpenMMLab)" if "blocks.0.ls1.gamma" in state else UNKNOWN_OPEN_MMLAB


class _Names:
    """Return whether any name in a file matches."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def __call__(self, pattern: str) -> bool:
        compiled = re.compile(pattern)
        return any(compiled.search(name) for name in self.names)


def _normalisation(
    name: str, source: Source, config: Mapping[str, object], names: Collection[str]
) -> Normalisation | None:
    """Normalisation from a configuration file, else the family's, else None for timm's.

    A bare ViT under timm's names without a classifier counts as self-supervised, for which all authors used ImageNet's
    values (our choice); with a classifier it is timm's own, and the model's name determines them.
    """
    timm_config = config.get("pretrained_cfg")
    for content, mean, std in (
        (source.preprocessor, "image_mean", "image_std"),
        (timm_config if isinstance(timm_config, Mapping) else {}, "mean", "std"),
    ):
        values = [content.get(mean), content.get(std)]
        if all(isinstance(value, list | tuple) and len(value) == 3 for value in values):
            return (tuple(map(float, values[0])), tuple(map(float, values[1])))  # type: ignore[arg-type, return-value]
    if name == "ViT (Hugging Face)":
        return HALF
    if name == UNKNOWN and any(re.search(r"(^|\.)head\.(weight|bias)$", key) for key in names):
        return None
    if name == UNKNOWN_OPEN_MMLAB and any(re.search(r"(^|\.)head\.layers\.head\.weight$", key) for key in names):
        return HALF  # mmpretrain's supervised ViTs: mean and standard deviation 127.5
    return IMAGENET


def _matching_config(source: Source, plain: Plain) -> dict[str, Any]:
    """`config.json`, if it belongs to these weights: the same width, or timm's own format."""
    width = plain.state["patch_embed.proj.weight"].shape[0]
    config = source.config
    return config if config.get("hidden_size") == width or "pretrained_cfg" in config else {}


def _sincos(state: Mapping[str, Tensor], rows_first: bool) -> bool:
    """Return whether the position table is the fixed sine-cosine one of MAE (columns first) or MoCo v3 (rows first).

    This distinguishes bare encoders, whose names are the same; the class token's row is zero in both.
    """
    table = state.get("pos_embed")
    if table is None or table.is_meta or table.shape[1] < 2 or table[:, 0].count_nonzero():
        return False
    return sincos_grid(table[0, 1:], rows_first) is not None
