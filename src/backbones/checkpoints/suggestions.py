"""Suggest timm names for a geometry, and the nearest valid name to a mistyped one."""

from __future__ import annotations

import difflib

import timm

from src.backbones.checkpoints.geometry import Geometry

# (width, depth) → timm's name of the size, for models with published self-supervised checkpoints.
_SIZES = {
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
    (1280, 32): "huge",
    (1536, 40): "giant",
    (4096, 40): "7b",
}
_PLUS = {"small": "small_plus", "huge": "huge_plus"}


def fitting_names(geometry: Geometry, tag: str = "") -> list[str]:
    """timm models of this geometry; empty if there are none.

    Args:
        geometry: Geometry of a file.
        tag: A pretrained tag to add if timm has it, such as `dino`, which sets the right mean and standard deviation.
    """
    size = _SIZES.get((geometry.width, geometry.depth))
    if size is None:
        return []
    patch = f"patch{geometry.patch_size}"
    if geometry.positions == "rotary":
        size = _PLUS.get(size, size) if geometry.gated_mlp else size
        name = f"vit_{size}_{patch}_dinov3" + "_qkvb" * geometry.qkv_bias
    elif geometry.layer_scale:
        name = f"vit_{size}_{patch}{f'_reg{geometry.registers}' if geometry.registers else ''}_dinov2"
    else:
        name = f"vit_{size}_{patch}_224"
    if not timm.is_model(name):
        return []
    return [f"{name}.{tag}"] if tag and f"{name}.{tag}" in timm.list_pretrained(f"{name}*") else [name]


def nearest_names(name: str) -> str:
    """` (did you mean …?)`, or an empty text."""
    near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
    return f" (did you mean {', '.join(near)}?)" if near else ""
