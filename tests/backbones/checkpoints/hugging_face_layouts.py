"""The same checkpoints as Hugging Face spells them."""

from collections.abc import Callable

import torch

from tests.backbones.checkpoints.dinov3_layouts import dinov3, periods
from tests.backbones.checkpoints.mae_moco_layouts import sincos_table
from tests.backbones.checkpoints.published_layouts import (
    SIDE,
    WIDTH,
    Published,
    State,
    dinov2,
    official,
    official_reference,
    under,
)

_HF_VIT = {
    "norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
}  # fmt: skip
_HF_DINOV2 = {
    "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2", "mlp.w12": "mlp.weights_in", "mlp.w3": "mlp.weights_out",
}  # fmt: skip
_HF_DINOV3 = {
    "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.o_proj", "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj", "mlp.w1": "mlp.gate_proj", "mlp.w2": "mlp.up_proj", "mlp.w3": "mlp.down_proj",
}  # fmt: skip


def hugging_face(state: State, modules: dict[str, str], layer: str, attention: list[str], top: dict[str, str]) -> State:
    """Official names → Hugging Face's, by whole modules; qkv falls into three."""
    renamed: State = {}
    for name, value in state.items():
        if not name.startswith("blocks."):
            renamed[next((hf + name[len(ours) :] for ours, hf in top.items() if name.startswith(ours)), name)] = value
            continue
        _, index, rest = name.split(".", 2)
        module, kind = rest.rsplit(".", 1)
        if module == "attn.qkv":
            if kind != "bias_mask":
                for part, piece in zip(attention, value.chunk(3), strict=True):
                    renamed[f"{layer}.{index}.attention.{part}.{kind}"] = piece
        elif module in ("ls1", "ls2"):
            renamed[f"{layer}.{index}.layer_scale{module[-1]}.lambda1"] = value
        else:
            renamed[f"{layer}.{index}.{modules[module]}.{kind}"] = value
    return renamed


_HF_TOP = {
    "cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings",
    "mask_token": "embeddings.mask_token", "register_tokens": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings.projection", "norm.": "layernorm.",
}  # fmt: skip
_QKV = ["attention.query", "attention.key", "attention.value"]


def hf_vit() -> Published:
    state = official(30)
    content = under("vit.", hugging_face(state, _HF_VIT, "encoder.layer", _QKV, _HF_TOP))
    content |= {"classifier.weight": torch.zeros(5, WIDTH), "vit.pooler.dense.weight": torch.zeros(WIDTH, WIDTH)}
    return Published(content, "tiny_vit", "ViT (Hugging Face)", official_reference(state, epsilon=1e-12))


def hf_mae() -> Published:
    state = official(31, positions=sincos_table(WIDTH, SIDE, rows_first=False))
    content = under("vit.", hugging_face(state, _HF_VIT, "encoder.layer", _QKV, _HF_TOP))
    content |= {"decoder.mask_token": torch.zeros(1, 1, 16), "decoder.decoder_embed.weight": torch.zeros(16, WIDTH)}
    return Published(content, "tiny_vit", "MAE (Hugging Face)", official_reference(state, epsilon=1e-12))


def hf_dinov2(of: Callable[[], Published] = dinov2) -> Published:
    source = of()
    content = hugging_face(source.content, _HF_DINOV2, "encoder.layer", _QKV, _HF_TOP)
    return Published(content, source.model, "DINOv2 (Hugging Face)", source.reference, source.interpolation)


def hf_dinov3(swiglu: str = "") -> Published:
    """Hugging Face computes the periods in fp32, and has no key bias at all."""
    source = dinov3(swiglu)
    state = dict(source.content)
    del state["rope_embed.periods"]
    top = {"storage_tokens": "embeddings.register_tokens", "cls_token": "embeddings.cls_token",
           "mask_token": "embeddings.mask_token", "patch_embed.proj": "embeddings.patch_embeddings"}  # fmt: skip
    content = hugging_face(state, _HF_DINOV3, "layer", ["q_proj", "k_proj", "v_proj"], top)
    content = {name: value for name, value in content.items() if not name.endswith("k_proj.bias")}
    source.reference.periods = periods()
    return Published(content, source.model, "DINOv3 (Hugging Face)", source.reference)
