"""Seeded random checkpoints in the key layouts that were published, each with its reference forward.

Names and shapes are those of the authors' releases, at width 32, depth 3, patch 8, grid 4×4 unless said otherwise.
"""

from argparse import Namespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.backbones.checkpoints.reference_vits import Layer, Reference, gated_mlp, plain_mlp

WIDTH, DEPTH, PATCH, SIDE, HEADS = 32, 3, 8, 4, 4
State = dict[str, Tensor]


class Published(NamedTuple):
    """A family's file: what `torch.save` or `save_file` writes, the model it is for, and what its features are."""

    content: dict[str, Any]
    model: str
    family: str
    reference: Reference
    interpolation: str = "antialias"


class KeyedRandom:
    """Random tensors large enough to matter in the features, seeded."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 0.3, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(shape, generator=self.generator)

    def linear(self, state: State, name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = self(outputs, inputs, scale=inputs**-0.5)
        if bias:
            state[f"{name}.bias"] = self(outputs)

    def norm(self, state: State, name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = self(width, mean=1.0), self(width)


def pair(state: State, name: str) -> tuple[Tensor, Tensor | None]:
    return state[f"{name}.weight"], state.get(f"{name}.bias")


def official(
    seed: int,
    *,
    width: int = WIDTH,
    depth: int = DEPTH,
    class_tokens: int = 1,
    scale: str = "",
    swiglu: str = "",
    positions: Tensor | None = None,
    table: bool = True,
    hidden: int | None = None,
) -> State:
    """The spelling of the authors' own code, which timm shares: blocks.N.attn.qkv, mlp.fc1, …"""
    draw, state = KeyedRandom(seed), {}
    hidden = hidden or 4 * width
    state["cls_token"] = draw(1, class_tokens, width)
    if table:
        state["pos_embed"] = draw(1, class_tokens + SIDE**2, width) if positions is None else positions
    state["patch_embed.proj.weight"] = draw(width, 3, PATCH, PATCH, scale=0.1)
    state["patch_embed.proj.bias"] = draw(width)
    for index in range(depth):
        block = f"blocks.{index}"
        draw.norm(state, f"{block}.norm1", width)
        draw.linear(state, f"{block}.attn.qkv", 3 * width, width)
        draw.linear(state, f"{block}.attn.proj", width, width)
        draw.norm(state, f"{block}.norm2", width)
        if swiglu == "packed":  # DINOv2 giant
            draw.linear(state, f"{block}.mlp.w12", 2 * hidden, width)
            draw.linear(state, f"{block}.mlp.w3", width, hidden)
        elif swiglu == "apart":  # DINOv3 S+, H+ and 7B
            draw.linear(state, f"{block}.mlp.w1", hidden, width)
            draw.linear(state, f"{block}.mlp.w2", hidden, width)
            draw.linear(state, f"{block}.mlp.w3", width, hidden)
        else:
            draw.linear(state, f"{block}.mlp.fc1", hidden, width)
            draw.linear(state, f"{block}.mlp.fc2", width, hidden)
        if scale:
            state[f"{block}.{scale}1" + (".gamma" if scale == "ls" else "")] = draw(width, mean=0.7)
            state[f"{block}.{scale}2" + (".gamma" if scale == "ls" else "")] = draw(width, mean=0.7)
    draw.norm(state, "norm", width)
    return state


def official_reference(state: State, *, heads: int = HEADS, scale: str = "", **more: Any) -> Reference:
    layers = []
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    for index in range(depth):
        block = f"blocks.{index}"
        weight, bias = state[f"{block}.attn.qkv.weight"].chunk(3), state[f"{block}.attn.qkv.bias"]
        if f"{block}.attn.qkv.bias_mask" in state:
            bias = bias * state[f"{block}.attn.qkv.bias_mask"]
        bias = bias.chunk(3)
        if f"{block}.mlp.w12.weight" in state:
            halves = [part.chunk(2) for part in pair(state, f"{block}.mlp.w12")]
            gate, inner = zip(*halves, strict=True)
            mlp = gated_mlp(gate, inner, pair(state, f"{block}.mlp.w3"))
        elif f"{block}.mlp.w1.weight" in state:
            mlp = gated_mlp(*(pair(state, f"{block}.mlp.w{number}") for number in (1, 2, 3)))
        else:
            mlp = plain_mlp(pair(state, f"{block}.mlp.fc1"), pair(state, f"{block}.mlp.fc2"))
        scales = [state.get(f"{block}.{scale}{number}" + (".gamma" if scale == "ls" else "")) for number in (1, 2)]
        layers.append(
            Layer(
                norm1=pair(state, f"{block}.norm1"),
                query=(weight[0], bias[0]),
                key=(weight[1], bias[1]),
                value=(weight[2], bias[2]),
                out=pair(state, f"{block}.attn.proj"),
                norm2=pair(state, f"{block}.norm2"),
                mlp=mlp,
                scale1=scales[0],
                scale2=scales[1],
            )
        )
    return Reference(
        patch=pair(state, "patch_embed.proj"),
        cls=state["cls_token"],
        positions=state.get("pos_embed"),
        layers=layers,
        norm=pair(state, "norm"),
        heads=heads,
        position_rows=state["cls_token"].shape[1],
        **more,
    )


def dino_head(seed: int, width: int = WIDTH, prototypes: int = 24) -> State:
    """DINO's head: three linear layers with GELU between (1 and 3), and a weight-normalised last layer."""
    draw, state = KeyedRandom(seed), {}
    draw.linear(state, "mlp.0", 20, width)
    draw.linear(state, "mlp.2", 20, 20)
    draw.linear(state, "mlp.4", 12, 20)
    state["last_layer.weight_g"], state["last_layer.weight_v"] = torch.ones(prototypes, 1), draw(prototypes, 12)
    return state


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def dino() -> Published:
    """The full checkpoint: both networks, heads, optimiser, options, loss."""
    student, teacher = official(1), official(2)
    content = {
        "student": under("module.backbone.", student) | under("module.head.", dino_head(3)),
        "teacher": under("backbone.", teacher) | under("head.", dino_head(4)),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": Namespace(arch="vit_small", patch_size=16),
        "dino_loss": {"center": torch.zeros(1, 24)},
    }
    return Published(content, "tiny_vit", "DINO", official_reference(teacher), "dino")


def ibot() -> Published:
    student, teacher = official(5), official(6)
    heads = [dino_head(seed) for seed in (7, 8)]
    for head in heads:  # one head for class token and patches, listed twice
        head.update({name.replace("last_layer", "last_layer2"): head[name] for name in list(head) if "last" in name})
    content = {
        "student": under("module.backbone.", student | {"masked_embed": torch.zeros(1, WIDTH)})
        | under("module.head.", heads[0]),
        "teacher": under("backbone.", teacher) | under("head.", heads[1]),
        "epoch": 800,
        "args": Namespace(arch="vit_small"),
        "ibot_loss": {"center": torch.zeros(1, 24), "center2": torch.zeros(1, 1, 24)},
    }
    return Published(content, "tiny_vit", "iBOT", official_reference(teacher), "dino")


def udi(part: str = "full") -> Published:
    """Two class tokens; the dense attention and its norm lie beside the ViT, one level above it."""
    student, teacher = official(9, class_tokens=2), official(10, class_tokens=2)
    draw, attention = KeyedRandom(11), {}
    draw.linear(attention, "attn.qkv", 3 * WIDTH, WIDTH)
    draw.linear(attention, "attn.proj", WIDTH, WIDTH)
    draw.norm(attention, "attn.norm", WIDTH)
    draw.norm(attention, "norm1", WIDTH)
    head = dino_head(12)
    heads = under("head.0.", head) | under("head.1.", head) | under("head.2.", head)
    content: dict[str, Any] = {
        "student": under("module.backbone.backbone.", student)
        | under("module.backbone.", attention)
        | under("module.", heads),
        "teacher": under("backbone.backbone.", teacher) | under("backbone.", attention) | heads,
        "epoch": 300,
        "args": Namespace(arch="vit_small", number_cls_token=2),
        "udi_loss": {"centering.center": torch.zeros(3, 24), "centering.count": torch.zeros(3, 1)},
    }
    if part == "backbone":
        content = teacher | attention
    if part == "wrapper":
        content = under("backbone.", teacher) | attention
    return Published(content, "tiny_vit", "UDI", official_reference(teacher), "dino")


def dinov2(training: bool = False) -> Published:
    state = official(13, scale="ls")
    reference = official_reference(state, scale="ls")
    content: dict[str, Any] = state | {"mask_token": torch.zeros(1, WIDTH)}
    if training:  # blocks in chunks of one, that keep their own number; heads beside the backbone
        chunked = {
            name.replace("blocks.", f"blocks.{name.split('.')[1]}.", 1): value
            for name, value in state.items()
            if name.startswith("blocks.")
        } | {n: v for n, v in content.items() if not n.startswith("blocks.")}
        content = {
            "teacher": under("backbone.", chunked)
            | under("dino_head.", dino_head(14))
            | under("ibot_head.", dino_head(15))
        }
    return Published(content, "tiny_dinov2", "DINOv2", reference, "dino")


def dinov2_registers() -> Published:
    state = official(16, scale="ls") | {"register_tokens": KeyedRandom(17)(1, 4, WIDTH)}
    reference = official_reference(state, scale="ls", late=state["register_tokens"])
    return Published(state | {"mask_token": torch.zeros(1, WIDTH)}, "tiny_reg4_dinov2", "DINOv2", reference)


def dinov2_giant() -> Published:
    state = official(18, scale="ls", swiglu="packed", hidden=44)
    return Published(
        state | {"mask_token": torch.zeros(1, WIDTH)},
        "tiny_giant_dinov2",
        "DINOv2",
        official_reference(state, scale="ls"),
        "dino",
    )


def timm_dinov2_registers() -> Published:
    """timm has added the class token's position to it, and names the registers reg_token."""
    from_official = dinov2_registers()
    state = dict(from_official.content)
    state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
    state["pos_embed"] = state["pos_embed"][:, 1:]
    state["reg_token"] = state.pop("register_tokens")
    del state["mask_token"]
    return Published(state, "tiny_reg4_dinov2", "DINOv2 (timm)", from_official.reference)


def timm_classifier() -> Published:
    state = official(27)
    return Published(
        state | {"head.weight": torch.zeros(10, WIDTH), "head.bias": torch.zeros(10)},
        "tiny_vit",
        "ViT (timm names)",
        official_reference(state),
    )


def own_checkpoint() -> Published:
    """Lightning's layout, of a run in which everything trained."""
    student, teacher = official(28), official(29)
    content = {
        "pytorch-lightning_version": "2.6.0",
        "state_dict": under("student.backbone.trunk.", student) | under("teacher.backbone.trunk.", teacher),
        "hyper_parameters": {"lr": 0.1},
    }
    return Published(content, "tiny_vit", "DINO", official_reference(teacher))
