"""Key layouts: find the ViT in a file, and rename its tensors to plain names.

Plain names are timm's for its `VisionTransformer`: cls_token, reg_token, pos_embed, patch_embed.proj, blocks.N.norm1,
attn.qkv, attn.proj, ls1.gamma, norm2, mlp.fc1, mlp.fc2, ls2.gamma, norm; gated MLPs with two separate input matrices
have fc1_g (gate) and fc1_x. Published files have four naming schemes: timm's and the official ones (of which DINO,
iBOT, UDI, DINOv2, DINOv3, MAE and MoCo v3 are variants), Hugging Face's ViT / DINOv2, Hugging Face's DINOv3, and
OpenMMLab's (mmpretrain, mmselfsup, mmsegmentation).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from src.core.errors import UserError

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_CHUNKED = re.compile(r"blocks\.\d+\.(\d+)\.")  # DINOv2 in training: blocks.CHUNK.BLOCK
_RENAMED = (
    (re.compile(r"^(?:register_tokens|storage_tokens)$"), "reg_token"),
    (re.compile(r"\.gamma_([12])$"), r".ls\1.gamma"),
    (re.compile(r"\.mlp\.w12\."), ".mlp.fc1."),
    (re.compile(r"\.mlp\.w1\."), ".mlp.fc1_g."),
    (re.compile(r"\.mlp\.w2\."), ".mlp.fc1_x."),
    (re.compile(r"\.mlp\.w3\."), ".mlp.fc2."),
)
_HUGGING_FACE = (
    (re.compile(r"^embeddings\.cls_token$"), "cls_token"),
    (re.compile(r"^embeddings\.position_embeddings$"), "pos_embed"),
    (re.compile(r"^embeddings\.register_tokens$"), "reg_token"),
    (re.compile(r"^embeddings\.mask_token$"), "mask_token"),
    (re.compile(r"^embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)$"), r"patch_embed.proj.\1"),
    (re.compile(r"^(?:(?:model|encoder)\.)?layers?\.(\d+)\."), r"blocks.\1."),
    (re.compile(r"\.attention\.(?:attention\.)?(query|key|value)\."), r".attn.\1."),
    (re.compile(r"\.attention\.(q|k|v)_proj\."), r".attn.\1_proj."),
    (re.compile(r"\.attention\.(?:output\.dense|o_proj)\."), ".attn.proj."),
    (re.compile(r"^(blocks\.\d+)\.layernorm_before\."), r"\1.norm1."),
    (re.compile(r"^(blocks\.\d+)\.layernorm_after\."), r"\1.norm2."),
    (re.compile(r"^(blocks\.\d+)\.intermediate\.dense\."), r"\1.mlp.fc1."),
    (re.compile(r"^(blocks\.\d+)\.output\.dense\."), r"\1.mlp.fc2."),
    (re.compile(r"\.layer_scale([12])\.lambda1$"), r".ls\1.gamma"),
    (re.compile(r"\.mlp\.weights_in\."), ".mlp.fc1."),
    (re.compile(r"\.mlp\.weights_out\."), ".mlp.fc2."),
    (re.compile(r"\.mlp\.gate_proj\."), ".mlp.fc1_g."),
    (re.compile(r"\.mlp\.down_proj\."), ".mlp.fc2."),
    (re.compile(r"^layernorm\."), "norm."),
)
_OPEN_MMLAB = (
    (re.compile(r"^patch_embed\.projection\."), "patch_embed.proj."),
    (re.compile(r"^(?:ln1|norm1)\."), "norm."),
    (re.compile(r"^layers\.(\d+)\."), r"blocks.\1."),
    (re.compile(r"\.ln([12])\."), r".norm\1."),
    (re.compile(r"\.attn\.gamma1\.weight$"), ".ls1.gamma"),
    (re.compile(r"\.ffn\.gamma2\.weight$"), ".ls2.gamma"),
    (re.compile(r"\.attn\.attn\.in_proj_"), ".attn.qkv."),  # torch's MultiheadAttention, in mmsegmentation
    (re.compile(r"\.attn\.attn\.out_proj\."), ".attn.proj."),
    (re.compile(r"\.ffn\.layers\.0\.0\."), ".mlp.fc1."),
    (re.compile(r"\.ffn\.layers\.1\."), ".mlp.fc2."),
    (re.compile(r"\.ffn\.w12\."), ".mlp.fc1."),
    (re.compile(r"\.ffn\.w3\."), ".mlp.fc2."),
)
_ANCHORS = {
    "patch_embed.proj.weight": "timm",
    "patch_embed.projection.weight": "OpenMMLab",
    "embeddings.patch_embeddings.projection.weight": "Hugging Face",
    "embeddings.patch_embeddings.weight": "Hugging Face DINOv3",
}
# Entries of published files that do not contribute to the features, with the reason for leaving each out.
_IGNORED = (
    (re.compile(r"^(?:mask_token|masked_embed)$"), "mask token, used in pre-training only"),
    (re.compile(r"^decoder(?:_|\.)"), "decoder of masked pre-training"),
    (re.compile(r"^(?:head|head_dist|fc|classifier|pre_logits|lm_head|last_layer)\."), "head"),
    (re.compile(r"^pooler\."), "pooler of the class token"),
    (re.compile(r"^rope_embed\.periods$"), "rotary periods, kept with the weights"),
    (re.compile(r"^rope_embeddings\.(?:inv_freq|periods)$"), "rotary periods, the same in every file"),
    (re.compile(r"^local_cls_norm\."), "norm of DINOv3's local crops, used in pre-training only"),
    (re.compile(r"^(?:attn\.(?:qkv|proj|norm)|norm1)\.(?:weight|bias)$"), "UDI's dense attention, not part of the ViT"),
)


class Place(NamedTuple):
    """A ViT inside a file: the prefix of its tensors, and their naming scheme."""

    prefix: str
    spelling: str


class Plain(NamedTuple):
    """A ViT's tensors under plain names.

    Attributes:
        state: The tensors.
        names: The file's name by plain name.
        ignored: Reason for leaving out, by the file's name.
        periods: DINOv3's rotary periods, if the file has them.
        spelling: As in `Place`.
    """

    state: dict[str, Tensor]
    names: dict[str, str]
    ignored: dict[str, str]
    periods: Tensor | None
    spelling: str


def find_places(names: Iterable[str]) -> list[Place]:
    """Every ViT in a file, by its patch embedding; decoders do not count."""
    places = []
    for name in names:
        for anchor, spelling in _ANCHORS.items():
            if name == anchor or name.endswith("." + anchor):
                places.append(Place(name[: len(name) - len(anchor)], spelling))
    return sorted(places)


def to_plain(tensors: dict[str, Tensor], place: Place) -> Plain:
    """Rename one ViT's tensors; others are left out with a reason.

    An unknown name is kept, and later reported as unexpected: nothing is dropped silently.

    Args:
        tensors: The file's tensors, removed as they are used, so that memory does not double.
        place: The ViT.

    Raises:
        UserError: If two tensors get the same name, or parts of attention do not fit together.
    """
    state: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    ignored: dict[str, str] = {}
    periods = None
    for name in [name for name in tensors if name.startswith(place.prefix)]:
        value, local = tensors.pop(name), name[len(place.prefix) :]
        plain = _plain_name(local, place.spelling)
        spellings = (plain,) if place.spelling == "OpenMMLab" else (local, plain)  # its norm1 is the final norm
        reason = next((why for pattern, why in _IGNORED if any(map(pattern.match, spellings))), None)
        if reason is not None:
            ignored[name] = reason
            periods = value if local == "rope_embed.periods" else periods
            continue
        _require_ordinary(name, value)
        if plain in names:
            raise UserError(f"{names[plain]} and {name} are both {plain}")
        state[plain], names[plain] = value, name
    _mask_key_bias(state, names, ignored)
    _join_attention(state, names)
    return Plain(state, names, ignored, periods, place.spelling)


def _require_ordinary(name: str, value: Tensor) -> None:
    """Check a tensor before use: it must hold all the bytes it claims, as plain floating point."""
    if value.layout != torch.strided or value.dtype not in _FLOATS:
        kind = value.layout if value.layout != torch.strided else value.dtype
        raise UserError(f"{name} is {kind}, expected plain floating point")
    claimed, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if not value.is_meta and claimed > held:
        raise UserError(f"{name} claims {claimed:,} bytes, but holds {held:,}")


def _plain_name(name: str, spelling: str) -> str:
    if spelling == "timm":
        name = _CHUNKED.sub(r"blocks.\1.", name)
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        return name
    if spelling == "OpenMMLab":
        for pattern, replacement in _OPEN_MMLAB:
            name = pattern.sub(replacement, name)
        return name
    if ".mlp.up_proj." in name:  # plain MLPs have up and down, gated ones gate, up and down
        return re.sub(r"^(?:(?:model|encoder)\.)?layers?\.(\d+)\.mlp\.up_proj\.", r"blocks.\1.mlp.up.", name)
    for pattern, replacement in _HUGGING_FACE:
        name = pattern.sub(replacement, name)
    return name


def _mask_key_bias(state: dict[str, Tensor], names: dict[str, str], ignored: dict[str, str]) -> None:
    """Apply DINOv3's mask, `bias * bias_mask`, which is 0 for the key's third."""
    for name in [name for name in state if name.endswith(".attn.qkv.bias_mask")]:
        mask, bias = state.pop(name), name.removesuffix("_mask")
        ignored[names.pop(name)] = "mask of the key bias, applied to it"
        if bias in state and state[bias].shape == mask.shape:
            keep = torch.nan_to_num(mask.to(torch.float32), nan=1.0)  # a mask that was never filled hides nothing
            state[bias] = torch.where(
                keep == 0, torch.zeros_like(state[bias]), state[bias] * keep.to(state[bias].dtype)
            )


def _join_attention(state: dict[str, Tensor], names: dict[str, str]) -> None:
    """Join query, key and value to one matrix and one bias, zero for a projection without one."""
    for name in [name for name in state if name.endswith(".mlp.up.weight")]:
        block = name.removesuffix("up.weight")
        target = "fc1_x" if f"{block}fc1_g.weight" in state else "fc1"
        for kind in ("weight", "bias"):
            if f"{block}up.{kind}" in state:
                state[f"{block}{target}.{kind}"] = state.pop(f"{block}up.{kind}")
                names[f"{block}{target}.{kind}"] = names.pop(f"{block}up.{kind}")
    for parts, keyless in ((("query", "key", "value"), False), (("q_proj", "k_proj", "v_proj"), True)):
        for name in [name for name in state if name.endswith(f".attn.{parts[0]}.weight")]:
            block = name.removesuffix(f"{parts[0]}.weight")
            _join(state, names, [f"{block}{part}.weight" for part in parts], f"{block}qkv.weight")
            biases = [f"{block}{part}.bias" for part in parts]
            _join(state, names, biases, f"{block}qkv.bias", keyless=keyless)
    for name in [name for name in state if name.endswith(".attn.q_bias")]:  # timm's Eva
        block = name.removesuffix("q_bias")
        _join(state, names, [f"{block}{letter}_bias" for letter in "qkv"], f"{block}qkv.bias", keyless=True)


def _join(state: dict[str, Tensor], names: dict[str, str], parts: list[str], whole: str, keyless: bool = False) -> None:
    """Join query, key and value to one tensor, if there are any; `keyless` layouts may lack the key bias."""
    present = [part for part in parts if part in state]
    if not present:
        return
    lacking = [part for part in parts if part not in state]
    if lacking and (not keyless or lacking != [parts[1]]):
        raise UserError(f"{', '.join(lacking)} missing next to {names[present[0]]}")
    shape = state[present[0]].shape
    if not shape or any(state[part].shape != shape for part in present):
        shapes = ", ".join(f"{names[part]} {tuple(state[part].shape)}" for part in present)
        raise UserError(f"query, key and value do not fit together: {shapes}")
    zeros = torch.zeros_like(state[present[0]])
    own = names[present[0]]
    state[whole] = torch.cat([state.pop(part, zeros) for part in parts])
    for part in present:
        del names[part]
    names[whole] = own
