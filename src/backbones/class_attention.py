"""Attention of the class token in one block, from queries and keys alone.

Shapes: B images · H heads · D width · N patches.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from torch import Tensor
from torch.nn import functional as F

from src.backbones.adapters.bottleneck import inner_block


def class_attention(block: Any, tokens: Tensor, rope: Tensor | None, prefix: int) -> Tensor:
    """Compute the class token's row of a block's attention map, besides the fused attention (docs/method.md,
    "Symbols").

    Args:
        block: timm's `Block` or `EvaBlock`, or one with an adapter around it.
        tokens: The block's input `[B, prefix + N, D]`.
        rope: Rotary embedding of this block, if the trunk has one.
        prefix: Tokens before the patches.

    Returns:
        `[B, H, N]`, a softmax over all tokens, without the prefix columns.
    """
    block = inner_block(block)
    attention, normed = block.attn, block.norm1(tokens)
    query, key = (
        F.linear(inputs, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)  # [B, H, tokens, D / H]
        for inputs, (weight, bias) in zip((normed[:, :1], normed), _query_key(attention), strict=True)
    )
    query, key = attention.q_norm(query), attention.k_norm(key)
    if rope is not None:  # prefix tokens, the class token among them, are not rotated
        half = getattr(attention, "rotate_half", False)
        rotated = apply_rot_embed_cat(key[:, :, prefix:], rope, half=half).type_as(key)
        key = torch.cat((key[:, :, :prefix], rotated), dim=2)
    scores = (query @ key.transpose(-2, -1)).squeeze(2).float() * attention.scale  # [B, H, tokens]
    return scores.softmax(dim=-1)[..., prefix:]


def _query_key(attention: Any) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of the query and of the key projection, for fused and separate projections."""
    if attention.qkv is None:
        return [(attention.q_proj.weight, attention.q_proj.bias), (attention.k_proj.weight, attention.k_proj.bias)]
    weights = attention.qkv.weight.chunk(3)
    if getattr(attention, "q_bias", None) is not None:
        return [(weights[0], attention.q_bias), (weights[1], attention.k_bias)]
    biases = (None, None) if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
    return [(weights[0], biases[0]), (weights[1], biases[1])]
