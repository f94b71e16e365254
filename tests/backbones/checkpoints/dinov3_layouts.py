"""DINOv3's checkpoints."""

import torch
from torch import Tensor

from tests.backbones.checkpoints.published_layouts import (
    DEPTH,
    HEADS,
    WIDTH,
    KeyedRandom,
    Published,
    State,
    official,
    official_reference,
)


def periods(heads: int = HEADS) -> Tensor:
    """DINOv3: base 100, one period for each quarter of a head's width; the release rounds them to bfloat16."""
    quarter = WIDTH // heads // 4
    return 100.0 ** (torch.arange(quarter) / quarter)


def dinov3(swiglu: str = "") -> Published:
    """Key bias drawn at random and masked: only a reader that applies the mask gets the features right."""
    state = official(19, scale="ls", table=False, swiglu=swiglu)
    state["storage_tokens"] = KeyedRandom(20)(1, 4, WIDTH)
    state["mask_token"] = torch.zeros(1, WIDTH)
    state["rope_embed.periods"] = periods().to(torch.bfloat16)
    for index in range(DEPTH):
        state[f"blocks.{index}.attn.qkv.bias_mask"] = torch.cat(
            [torch.ones(WIDTH), torch.zeros(WIDTH), torch.ones(WIDTH)]
        )
    reference = official_reference(
        state, scale="ls", late=state["storage_tokens"], epsilon=1e-5, periods=periods().to(torch.bfloat16).float()
    )
    return Published(state, "tiny_plus_dinov3_qkvb" if swiglu else "tiny_dinov3_qkvb", "DINOv3", reference)


def dinov3_without_bias() -> Published:
    """The distilled models' biases are zero, and timm names models without them."""
    official_file = dinov3()
    state = {
        name: torch.zeros_like(value) if name.endswith("qkv.bias") else value
        for name, value in official_file.content.items()
    }
    reference = official_reference(
        state, scale="ls", late=state["storage_tokens"], epsilon=1e-5, periods=periods().to(torch.bfloat16).float()
    )
    return Published(state, "tiny_dinov3", "DINOv3", reference)


def timm_dinov3() -> Published:
    """timm's Eva names: gamma_1, q_bias and v_bias, reg_token, no periods (fp32 ones are computed)."""
    state = dict(dinov3().content)
    masked = {n: v * state[f"{n}_mask"] if n.endswith("qkv.bias") else v for n, v in state.items() if "mask" not in n}
    reference = official_reference(masked, scale="ls", late=masked["storage_tokens"], epsilon=1e-5, periods=periods())
    renamed: State = {}
    for name, value in masked.items():
        if name.endswith("qkv.bias"):
            renamed[name.replace("qkv.bias", "q_bias")], _, renamed[name.replace("qkv.bias", "v_bias")] = value.chunk(3)
        elif name != "rope_embed.periods":
            name = name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
            renamed[name.replace("storage_tokens", "reg_token")] = value
    return Published(renamed, "tiny_dinov3_qkvb", "DINOv3 (timm)", reference)
