"""Checkpoints of MAE and MoCo v3."""

from typing import Any

import torch
from torch import Tensor

from tests.backbones.checkpoints.published_layouts import (
    PATCH,
    SIDE,
    WIDTH,
    KeyedRandom,
    Published,
    official,
    official_reference,
    under,
)


def sincos_table(width: int, side: int, rows_first: bool) -> Tensor:
    """Fixed positions of MAE (columns first) and MoCo v3 (rows first): a naive loop over the definition."""
    table = torch.zeros(1, 1 + side * side, width)
    for row in range(side):
        for column in range(side):
            for k in range(width // 4):
                omega = 10000.0 ** (-k / (width // 4))
                for half, where in enumerate((row, column) if rows_first else (column, row)):
                    angle = torch.tensor(where * omega)
                    table[0, 1 + row * side + column, half * width // 2 + k] = angle.sin()
                    table[0, 1 + row * side + column, half * width // 2 + width // 4 + k] = angle.cos()
    return table


def mae(decoder: bool = True) -> Published:
    state = official(21, positions=sincos_table(WIDTH, SIDE, rows_first=False))
    content = dict(state)
    if decoder:
        draw = KeyedRandom(22)
        content |= {"mask_token": draw(1, 1, 16), "decoder_pos_embed": draw(1, 17, 16)}
        draw.linear(content, "decoder_embed", 16, WIDTH)
        draw.linear(content, "decoder_pred", 3 * PATCH**2, 16)
        draw.norm(content, "decoder_norm", 16)
        content |= {
            f"decoder_blocks.0.{name.split('.', 2)[2]}": value
            for name, value in official(23, width=16, depth=1).items()
            if name.startswith("blocks.0.")
        }
    return Published({"model": content}, "tiny_vit", "MAE", official_reference(state))


def moco(bare: bool = False) -> Published:
    """ViT-S has 12 heads, which no tensor shows; the fixed position table gives a bare encoder away."""
    table = sincos_table(384, SIDE, rows_first=True)
    base, momentum = (
        official(24, width=384, depth=1, positions=table),
        official(25, width=384, depth=1, positions=table),
    )
    head = {
        "head.0.weight": KeyedRandom(26)(16, 384),
        "head.1.weight": torch.ones(16),
        "head.1.running_mean": torch.zeros(16),
    }
    content: dict[str, Any] = {
        "epoch": 300,
        "arch": "vit_small",
        "state_dict": under("module.base_encoder.", base | head)
        | under("module.momentum_encoder.", momentum | head)
        | {"module.predictor.0.weight": torch.zeros(4, 4)},
    }
    return Published(base if bare else content, "tiny_vit_384", "MoCo v3", official_reference(base, heads=12))
