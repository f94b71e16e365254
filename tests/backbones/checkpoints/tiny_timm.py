"""Tiny models under names that timm knows: the geometry of a family's model, at width 32 and depth 3.

Imported for its effect: the names are registered with timm.
"""

from typing import Any

import timm
from timm.models import register_model
from torch import nn

_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}


def _like(name: str, sizes: dict[str, Any], asked: dict[str, Any]) -> nn.Module:
    return timm.create_model(name, **(sizes | asked))


@register_model
def tiny_vit(pretrained: bool = False, **asked: Any) -> nn.Module:
    return _like("vit_small_patch16_224", _VIT, asked)


@register_model
def tiny_vit_384(pretrained: bool = False, **asked: Any) -> nn.Module:
    """Width 384, the one at which MoCo v3 has heads of its own: 12 instead of 6."""
    return _like("vit_small_patch16_224", {**_VIT, "embed_dim": 384, "depth": 1, "num_heads": 6}, asked)


@register_model
def tiny_dinov2(pretrained: bool = False, **asked: Any) -> nn.Module:
    return _like("vit_small_patch14_dinov2", _VIT, asked)


@register_model
def tiny_reg4_dinov2(pretrained: bool = False, **asked: Any) -> nn.Module:
    return _like("vit_small_patch14_reg4_dinov2", _VIT, asked)


@register_model
def tiny_giant_dinov2(pretrained: bool = False, **asked: Any) -> nn.Module:
    """SwiGLU: hidden width 2 · 44, which the two halves share."""
    return _like("vit_giant_patch14_dinov2", {**_VIT, "mlp_ratio": 2.75}, asked)


@register_model
def tiny_dinov3(pretrained: bool = False, **asked: Any) -> nn.Module:
    return _like("vit_small_patch16_dinov3", _VIT, asked)


@register_model
def tiny_dinov3_qkvb(pretrained: bool = False, **asked: Any) -> nn.Module:
    return _like("vit_small_patch16_dinov3_qkvb", _VIT, asked)


@register_model
def tiny_plus_dinov3_qkvb(pretrained: bool = False, **asked: Any) -> nn.Module:
    return _like("vit_small_plus_patch16_dinov3_qkvb", _VIT, asked)
