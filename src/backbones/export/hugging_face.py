"""Folder that `transformers.AutoModel.from_pretrained` loads: DINOv2, DINOv2 with registers, or a plain ViT.

Features are equal at the size of the position table (`image_size` of config.json); at others transformers resamples it
without antialiasing. `size` resamples the table to the size in use.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from src.backbones.backbone import Backbone
from src.backbones.export.merging import fit_positions, merged, native_size
from src.core.atomic_files import write_bytes, write_text
from src.core.errors import UserError

_DINOV2 = {
    "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.output.dense",
    "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1",
}  # fmt: skip
_MLP = {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
_SWIGLU = {"mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"}
_VIT = {
    "norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
}  # fmt: skip
_TOP = {
    "cls_token": "embeddings.cls_token", "reg_token": "embeddings.register_tokens",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias",
}  # fmt: skip


def to_hugging_face(backbone: Backbone, folder: Path, size: int | None = None) -> Path:
    """Write `model.safetensors`, `config.json` and `preprocessor_config.json`.

    Args:
        backbone: With an adapter that can be merged, or without one.
        folder: Target folder; created if needed.
        size: Resample the position table to square images of this side, pixels; None leaves it.

    Raises:
        UserError: If the adapter cannot be merged, the size does not fit, the position table is not square and no size
            is given, or transformers has no such layout.
    """
    own = merged(backbone, "hf")
    _require_layout(own)
    if size is not None:
        fit_positions(own.trunk, size)
    configuration = _configuration(own, _native_side(own))
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous().clone() for name, value in sorted(_tensors(own, configuration).items())}
    write_bytes(folder / "model.safetensors", save(tensors, {"format": "pt"}))
    write_text(folder / "config.json", json.dumps(configuration, indent=2) + "\n")
    write_text(
        folder / "preprocessor_config.json",
        json.dumps(_preprocessing(own, configuration["image_size"]), indent=2) + "\n",
    )
    return folder


def _require_layout(own: Backbone) -> None:
    """Refuse a network that transformers' three layouts cannot represent."""
    trunk, attention = own.trunk, own.trunk.blocks[0].attn
    other = None
    if not isinstance(trunk, VisionTransformer) or trunk.pos_embed is None:
        other = f"a {type(trunk).__name__}"
    elif own.second_class_token:
        other = "UDI's second class token"
    elif own.prefix > 1 and not (_scaled(own) and trunk.no_embed_class):
        other = "registers without DINOv2's layout"
    elif _parameters(attention.q_norm):
        other = "normalised queries"
    elif _parameters(trunk.norm_pre) or trunk.cls_token is None:
        other = "a norm before the blocks, or no class token"
    if other is not None:
        raise UserError(
            f"--to hf: expected a ViT, DINOv2 or DINOv2 with registers, found {own.name} with {other}; use --to timm, "
            "or --to onnx"
        )


def _parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _scaled(own: Backbone) -> bool:
    return any(name.endswith("ls1.gamma") for name in own.trunk.state_dict())


def _native_side(own: Backbone) -> int:
    """Image side, in pixels, of the position table."""
    native = native_size(own.trunk)
    assert native is not None, "_require_layout refuses networks without a table"
    height, width = native
    if height != width:
        raise UserError(
            f"--to hf: the position table is for images of {height}×{width}, but transformers takes every table for a "
            f"square one; resample it by --size, such as {min(native)}, or use --to timm"
        )
    return height


def _configuration(own: Backbone, side: int) -> dict[str, Any]:
    trunk: Any = own.trunk
    inner, outer = trunk.blocks[0].mlp.fc1.weight.shape[0], trunk.blocks[0].mlp.fc2.weight.shape[1]
    gated = inner == 2 * outer
    kind, architecture = "vit", "ViTModel"
    if own.prefix > 1:
        kind, architecture = "dinov2_with_registers", "Dinov2WithRegistersModel"
    elif _scaled(own):
        kind, architecture = "dinov2", "Dinov2Model"
    ratio = 4 if gated else inner // own.width
    expected = (int(own.width * ratio * 2 / 3) + 7) // 8 * 8 if gated else ratio * own.width
    if outer != expected or (gated and kind == "vit"):
        raise UserError(f"--to hf: transformers has no {architecture} with an MLP of {outer}; use --to timm")
    common: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": own.width,
        "num_hidden_layers": own.depth,
        "num_attention_heads": own.heads,
        "hidden_act": "gelu",
        "layer_norm_eps": trunk.norm.eps,
        "image_size": side,
        "patch_size": own.patch_size,
        "num_channels": 3,
        "qkv_bias": trunk.blocks[0].attn.qkv.bias is not None,
        "torch_dtype": "float32",
    }
    if kind == "vit":
        return {**common, "intermediate_size": inner}
    registers = {"num_register_tokens": own.prefix - 1} if own.prefix > 1 else {}
    return {**common, "mlp_ratio": ratio, "use_swiglu_ffn": gated, "layerscale_value": 1.0, **registers}


def _tensors(own: Backbone, configuration: dict[str, Any]) -> dict[str, Tensor]:
    plain = configuration["model_type"] == "vit"
    modules = _VIT if plain else {**_DINOV2, **(_SWIGLU if configuration["use_swiglu_ffn"] else _MLP)}
    result: dict[str, Tensor] = {}
    for name, value in own.trunk.state_dict().items():
        if name in _TOP:
            result[_TOP[name]] = value
        elif name == "pos_embed":
            result["embeddings.position_embeddings"] = _with_class_row(own, value)
        else:
            result.update(_of_block(name, value, modules))
    if not plain:
        result["embeddings.mask_token"] = torch.zeros(1, own.width)  # used in pre-training; no feature depends on it
    return result


def _with_class_row(own: Backbone, table: Tensor) -> Tensor:
    """The table `[1, 1 + N, D]`; timm's models with registers have added the class token's row to the token."""
    if not own.trunk.no_embed_class:
        return table
    return torch.cat((torch.zeros_like(table[:, :1]), table), dim=1)


def _of_block(name: str, value: Tensor, modules: dict[str, str]) -> dict[str, Tensor]:
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    assert found, name
    layer, local = f"encoder.layer.{found[1]}", found[2]
    if local in modules:
        return {f"{layer}.{modules[local]}": value}
    module, _, kind = local.rpartition(".")
    if module == "attn.qkv":
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{layer}.attention.attention.{part}.{kind}": piece for part, piece in parts}
    return {f"{layer}.{modules[module]}.{kind}": value}


def _preprocessing(own: Backbone, side: int) -> dict[str, Any]:
    """transformers' description of the preprocessing: RGB, short side and centre crop, normalisation."""
    mean, std = (own.get_buffer(key).flatten().tolist() for key in ("mean", "std"))
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }
