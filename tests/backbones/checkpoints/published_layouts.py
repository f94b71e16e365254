"""Seeded random checkpoints in the key layouts that were published, each with its reference forward.

Names and shapes are those of the authors' releases, at width 32, depth 3, patch 8, grid 4×4 unless said otherwise.
"""

from argparse import Namespace
from collections.abc import Callable
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


EVERY: dict[str, Callable[[], Published]] = {
    "DINO": dino,
    "iBOT": ibot,
    "UDI full": udi,
    "UDI backbone": lambda: udi("backbone"),
    "UDI wrapper": lambda: udi("wrapper"),
    "DINOv2": dinov2,
    "DINOv2 in training": lambda: dinov2(training=True),
    "DINOv2 registers": dinov2_registers,
    "DINOv2 giant": dinov2_giant,
    "DINOv2 registers, timm": timm_dinov2_registers,
    "DINOv2, Hugging Face": hf_dinov2,
    "DINOv2 registers, Hugging Face": lambda: hf_dinov2(dinov2_registers),
    "DINOv2 giant, Hugging Face": lambda: hf_dinov2(dinov2_giant),
    "DINOv3": dinov3,
    "DINOv3 plus": lambda: dinov3("apart"),
    "DINOv3 without bias": dinov3_without_bias,
    "DINOv3, timm": timm_dinov3,
    "DINOv3, Hugging Face": hf_dinov3,
    "DINOv3 plus, Hugging Face": lambda: hf_dinov3("apart"),
    "MAE": mae,
    "MAE encoder": lambda: mae(decoder=False),
    "MAE, Hugging Face": hf_mae,
    "MoCo v3": moco,
    "MoCo v3 encoder": lambda: moco(bare=True),
    "timm": timm_classifier,
    "ViT, Hugging Face": hf_vit,
    "own": own_checkpoint,
}
