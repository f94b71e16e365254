"""LoRA in the folder format of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`.

PEFT adapts a whole linear layer `W ← W + (alpha / r) · B A`. Queries, keys and values, which timm fuses into one layer,
have separate updates here: they are written as one update of their summed rank, and read back by their non-zero
columns.

Shapes: A `[r, in]` · B `[out, r]`.
"""

from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from src.backbones.adapters.kinds import class_path, settings_text
from src.backbones.adapters.low_rank import LoRA, Part, Target
from src.core.atomic_files import write_bytes, write_text
from src.core.errors import MissingFile, UserError

logger = logging.getLogger(__name__)

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(
    r"base_model\.model\.(?:[a-z_]+\.)*?(?:blocks|layers?)\.(\d{1,4})\.([a-z0-9_.]+)\.lora_([AB])\.weight"
)
# Names of a block's layers in timm and in Hugging Face's ViT, DINOv2 and DINOv3.
_LAYERS: dict[str, Target] = {
    "attn.q_proj": "q",
    "attn.k_proj": "k",
    "attn.v_proj": "v",
    "attention.q_proj": "q",
    "attention.k_proj": "k",
    "attention.v_proj": "v",
    "attention.attention.query": "q",
    "attention.attention.key": "k",
    "attention.attention.value": "v",
    "attn.proj": "proj",
    "attention.o_proj": "proj",
    "attention.output.dense": "proj",
    "mlp.fc1": "fc1",
    "mlp.up_proj": "fc1",
    "intermediate.dense": "fc1",
    "mlp.fc2": "fc2",
    "mlp.down_proj": "fc2",
    "output.dense": "fc2",
}
_FUSED = "attn.qkv"
# Settings with which PEFT's update is not a plain LoRA.
_OTHER = ("use_dora", "lora_bias", "fan_in_fan_out", "modules_to_save", "layer_replication", "use_qalora", "use_bdlora")


class Update(NamedTuple):
    """`scale · B A` of one target."""

    down: Tensor
    up: Tensor
    scale: float


Updates = dict[tuple[int, Target], Update]


def is_peft_folder(path: str | Path) -> bool:
    """Return True for a folder with an `adapter_config.json`."""
    return (Path(path) / _CONFIG).is_file()


def write_peft_folder(folder: str | Path, kind: LoRA, trunk: Any, name: str, weight_hash: str) -> None:
    """Write the LoRA of a trunk under timm's names.

    Args:
        folder: Created if needed.
        kind: The installed kind.
        trunk: A timm ViT.
        name: Name of the timm model.
        weight_hash: Weight hash of its frozen weights.
    """
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for (depth, layer), parts in _by_layer(kind.parts(trunk)).items():
        down = torch.cat([part.down for part in parts]).detach().cpu()
        rows = trunk.blocks[depth].get_submodule(layer).weight.shape[0]
        up = down.new_zeros(rows, len(down))
        for index, part in enumerate(parts):
            up[part.rows, index * kind.rank : (index + 1) * kind.rank] = part.up.detach().cpu()
        ranks[layer] = len(down)
        prefix = f"base_model.model.blocks.{depth}.{layer}.lora_"
        tensors |= {f"{prefix}A.weight": down.contiguous(), f"{prefix}B.weight": up}
    wider = {layer: rank for layer, rank in ranks.items() if rank != kind.rank}
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": name,
        "r": kind.rank,
        "lora_alpha": kind.alpha,
        "rank_pattern": wider,
        "alpha_pattern": {layer: kind.update_scale * rank for layer, rank in wider.items()},
        "target_modules": sorted(ranks),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    if kind.first_block:
        config |= {"layers_to_transform": sorted(kind.adapted_blocks(trunk)), "layers_pattern": "blocks"}
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_bytes(Path(folder) / _TENSORS, save(tensors, {"format": "pt", "weight_hash": weight_hash}))
    write_text(Path(folder) / _CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def read_peft_folder(folder: Path) -> tuple[LoRA, Updates, dict[str, str]]:
    """Read a LoRA that PEFT or `write_peft_folder` wrote.

    Returns:
        The kind, whose rank is the largest in the folder; the updates; metadata as adapter files have it, with an empty
        weight hash (and a warning) if the folder does not record its weights.

    Raises:
        MissingFile: If the tensors are missing.
        UserError: If it is not a plain LoRA of a ViT's linear layers, or is damaged.
    """
    config = _read_config(folder / _CONFIG)
    pairs, weight_hash = _read_pairs(folder / _TENSORS)
    updates: Updates = {}
    for (depth, layer), (down, up) in pairs.items():
        scale = _scale(config, f"blocks.{depth}.{layer}", len(down), folder)
        if layer != _FUSED:
            updates[depth, _LAYERS[layer]] = Update(down, up, scale)
            continue
        for target, part in zip(("q", "k", "v"), up.chunk(3), strict=True):
            used = part.any(dim=0)
            updates[depth, target] = Update(down[used], part[:, used], scale)  # type: ignore[index]
    rank = max(len(update.down) for update in updates.values())
    if rank == 0:
        raise UserError(f"{folder} holds no update: every lora_B is zero")
    scales = {update.scale for update in updates.values() if len(update.down)}
    if len(scales) > 1:  # one alpha for all: the rest is multiplied into B
        updates = {key: Update(one.down, one.up * one.scale, 1.0) for key, one in updates.items()}
    targets = dict.fromkeys(target for (_, target), update in sorted(updates.items()) if len(update.down))
    first = min(depth for (depth, _), update in updates.items() if len(update.down))
    kind = LoRA(rank, rank * (scales.pop() if len(scales) == 1 else 1.0), tuple(targets), first)
    if not weight_hash:
        logger.warning("%s does not record the weights that it was trained on: make sure that they are these", folder)
    metadata = {
        "format": "peft",
        "backbone": str(config.get("base_model_name_or_path")),
        "weight_hash": weight_hash,
        "adapter": class_path(kind),
        "sizes": settings_text(kind),
        "step": "0",
    }
    return kind, {key: update for key, update in updates.items() if len(update.down)}, metadata


def place_updates(folder: Path, trunk: nn.Module, kind: LoRA, updates: Updates) -> dict[str, Tensor]:
    """Rename updates as in a trunk with the kind installed; layers missing in the folder stay at zero.

    Raises:
        UserError: If the folder is for blocks or sizes that this trunk does not have.
    """
    names = {id(parameter): name for name, parameter in trunk.named_parameters()}
    parts = {(part.depth, part.target): part for part in kind.parts(trunk)}
    unknown = sorted(f"blocks.{depth}.{target}" for depth, target in updates.keys() - parts.keys())
    if unknown:
        raise UserError(f"{folder} adapts {', '.join(unknown[:4])}, which this backbone does not have")
    placed: dict[str, Tensor] = {}
    for key, part in parts.items():
        down, up = torch.zeros(part.down.shape), torch.zeros(part.up.shape)
        if key in updates:
            found = updates[key]
            if found.down.shape[1] != down.shape[1] or found.up.shape[0] != up.shape[0]:
                raise UserError(
                    f"{folder}: blocks.{key[0]}.{key[1]} maps {found.down.shape[1]} to {found.up.shape[0]} channels, "
                    f"in this backbone {down.shape[1]} to {up.shape[0]}; load the backbone that it was made on"
                )
            down[: len(found.down)], up[:, : len(found.down)] = found.down, found.up
        placed[names[id(part.down)]], placed[names[id(part.up)]] = down, up
    return placed


def _by_layer(parts: list[Part]) -> dict[tuple[int, str], list[Part]]:
    layers: dict[tuple[int, str], list[Part]] = {}
    for part in parts:
        layers.setdefault((part.depth, part.layer), []).append(part)
    return layers


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise UserError(f"{path}: expected peft_type LORA, found {found!r}")
    other = [key for key in _OTHER if config.get(key)] + ["bias"] * (config.get("bias", "none") != "none")
    if other:
        raise UserError(f"{path} sets {', '.join(other)}; expected a plain LoRA. Merge it into the weights with PEFT")
    return config


def _read_pairs(path: Path) -> tuple[dict[tuple[int, str], tuple[Tensor, Tensor]], str]:
    """A and B of each layer, float32, and the weight hash from `write_peft_folder`."""
    if not path.is_file():
        raise MissingFile(f"{path} not found; PEFT writes it next to {_CONFIG} (convert adapter_model.bin first)")
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            weight_hash = (file.metadata() or {}).get("weight_hash", "")
            for name in sorted(file.keys()):
                match = _NAME.fullmatch(name)
                if match is None or match[2] not in (*_LAYERS, _FUSED):
                    raise UserError(f"{path} holds {name!r}; expected lora_A and lora_B of a ViT's linear layers")
                tensor = file.get_tensor(name)
                if tensor.ndim != 2 or not tensor.is_floating_point() or not tensor.isfinite().all():
                    raise UserError(f"{path}: expected {name!r} as a matrix of finite floats")
                halves.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor.float().clone()
    except (safetensors.SafetensorError, OSError, UnicodeError) as error:
        raise UserError(f"{path} is not a safetensors file ({error}); copy it again") from None
    pairs = {}
    for (depth, layer), half in halves.items():
        if set(half) != {"A", "B"} or len(half["A"]) != half["B"].shape[1] or not len(half["A"]):
            raise UserError(f"{path}: expected lora_A [r, in] and lora_B [out, r] of blocks.{depth}.{layer}")
        if layer == _FUSED and len(half["B"]) % 3:
            raise UserError(
                f"{path}: lora_B of blocks.{depth}.{layer} has {len(half['B'])} rows, not a multiple of three"
            )
        pairs[depth, layer] = half["A"], half["B"]
    if not pairs:
        raise UserError(f"{path} holds no tensors")
    return pairs, weight_hash


def _scale(config: dict[str, Any], layer: str, rank: int, folder: Path) -> float:
    """alpha / r, or alpha / √r, of one layer; patterns match the end of its name."""
    patterns = config.get("alpha_pattern") or {}
    alpha = config.get("lora_alpha")
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"[\w.]+", key) for key in patterns):
        raise UserError(f"{folder / _CONFIG}: expected plain layer names in alpha_pattern, found {patterns!r}")
    for key, value in patterns.items():
        if layer == key or layer.endswith(f".{key}"):
            alpha = value
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not -1e30 < alpha < 1e30:
        raise UserError(f"{folder / _CONFIG}: expected lora_alpha as a finite number, found {alpha!r}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
