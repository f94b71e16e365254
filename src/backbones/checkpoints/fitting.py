"""Fit plain tensors to one timm model, strict in names, shapes, types and values.

Shapes: D width · N patches of the position table · C class tokens · R registers.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from src.backbones.checkpoints.geometry import Geometry, differences, read_geometry
from src.backbones.checkpoints.layouts import Place, Plain, to_plain
from src.backbones.checkpoints.suggestions import fitting_names, nearest_names
from src.core.errors import CommandLineError, UserError


class UnfitKeys(UserError):
    """The names in a file and in a model differ.

    Attributes:
        missing: The model's names that the file lacks.
        unexpected: The file's names that the model lacks.
    """

    def __init__(self, message: str, missing: list[str], unexpected: list[str]) -> None:
        super().__init__(message)
        self.missing, self.unexpected = missing, unexpected


def meta_model(name: str, options: dict[str, Any] | None = None) -> nn.Module:
    """The timm model on the meta device: no memory, no random numbers.

    Raises:
        CommandLineError: timm has no such model, or it is not a plain vision transformer.
    """
    if not timm.is_model(name):
        raise CommandLineError(f"timm has no model {name!r}{nearest_names(name)}")
    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0, dynamic_img_size=True, **(options or {}))
    except (TypeError, RuntimeError, AssertionError) as error:
        _refuse_other_families(name, None)
        raise UserError(f"{name} cannot be built as a vision transformer of any image size: {error}") from None
    _refuse_other_families(name, model)
    return model


def _refuse_other_families(name: str, model: nn.Module | None) -> None:
    """Refuse by name a network that is not a plain ViT: ResNet, ConvNeXt, Swin and the like.

    Args:
        name: A timm model name.
        model: The model, or None if it took no `dynamic_img_size`.

    Raises:
        CommandLineError: For such a network; a ViT that cannot be built for another reason passes.
    """
    if model is None:
        try:
            with torch.device("meta"):
                model = timm.create_model(name)
        except (TypeError, RuntimeError, AssertionError):
            return
    if not isinstance(model, VisionTransformer | Eva):
        raise CommandLineError(
            f"{name} is a {type(model).__name__}, not a vision transformer of timm's VisionTransformer or Eva class; "
            "use a vit_… model, such as vit_small_patch14_dinov2, vit_small_patch16_dinov3 or vit_base_patch16_224"
        )


def model_geometry(model: nn.Module) -> Geometry:
    """Geometry of a timm model, inferred as for a file."""
    plain = to_plain(dict(model.state_dict()), Place("", "timm"))
    rotary = getattr(model, "rope", None) is not None
    return read_geometry(plain.state, rotary, heads=int(model.blocks[0].attn.num_heads))  # type: ignore[index, union-attr]


def split_class_tokens(state: dict[str, Tensor], keep_second: bool) -> dict[str, Any]:
    """Turn UDI's second class token into an extra prefix token, or drop it with its position.

    timm adds the position table to registers too (unless told otherwise), so a register in place of the second class
    token gives UDI's own features.

    Returns:
        Options with which `timm.create_model` builds a model that fits it.

    Raises:
        UserError: If there are more than two class tokens.
    """
    tokens = state.get("cls_token")
    if tokens is None or tokens.shape[1] < 2:
        return {}
    if tokens.shape[1] > 2:
        raise UserError(f"cls_token {tuple(tokens.shape)}: {tokens.shape[1]} class tokens; expected 1, or 2 as in UDI")
    state["cls_token"] = tokens[:, :1]
    if keep_second:
        state["reg_token"] = tokens[:, 1:]
        return {"reg_tokens": 1}
    if "pos_embed" in state:
        state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 2:]], dim=1)
    return {}


def require_fit(file: Geometry, model: nn.Module, name: str, what: str) -> None:
    """Check that the file is for this model; the error has both geometries and the models that fit.

    Raises:
        UserError: If it is not.
    """
    theirs = model_geometry(model)
    lines = differences(file, theirs)
    if lines:
        fitting = fitting_names(file)
        raise UserError(
            f"{what} does not fit {name}:\n  the file:  {file}\n  the model: {theirs}\n  "
            + "\n  ".join(lines)
            + (f"\n  models that fit: {', '.join(fitting)}" if fitting else "\n  no model that timm names fits")
        )


def fit(plain: Plain, model: nn.Module, name: str, what: str, patches: int | None) -> dict[str, Tensor]:
    """The complete state dict of `model`, fp32, from plain tensors (which are consumed).

    Args:
        plain: The file's tensors; those that the model does not use are added to `ignored`.
        model: On the meta device, built for the file's tokens and position grid.
        name: Name of the model, for messages.
        what: The file, for messages.
        patches: Rows of the position table for patches; None without a table.

    Raises:
        UserError: If tensors are missing, unexpected, of another shape, or not finite.
    """
    expected = {key: value.shape for key, value in model.state_dict().items()}
    state = plain.state
    if patches is not None:
        _settle_positions(state, model, patches)
    _settle_attention(plain, expected, what)
    for index, gamma in ((1, "ls1.gamma"), (2, "ls2.gamma")):
        for key in [key for key in state if key.endswith(gamma) and key not in expected]:
            target = key.removesuffix(gamma) + f"gamma_{index}"
            state[target], plain.names[target] = state.pop(key), plain.names[key]
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        own = [plain.names.get(key, key) for key in unexpected]
        parts = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        parts += [f"{len(unexpected)} unexpected ({_some(own)})"] if unexpected else []
        hint = "; it was fine-tuned with average pooling: use the pre-trained file" if "fc_norm.weight" in state else ""
        message = f"{what} does not hold exactly the tensors of {name}: {' and '.join(parts)}{hint}"
        raise UnfitKeys(message, missing, own)
    for key, shape in expected.items():
        state[key] = _tidy(state[key], shape, f"{what}: {plain.names.get(key, key)}")
    return {key: state[key] for key in expected}


def _settle_positions(state: dict[str, Tensor], model: nn.Module, patches: int) -> None:
    """Add the position table's rows of prefix tokens to the tokens, where timm's register models keep them."""
    table, token = state.get("pos_embed"), state.get("cls_token")
    if table is None or token is None or getattr(model, "pos_embed", None) is None:
        return
    registers = state.get("reg_token")
    prefix = table.shape[1] - patches
    if getattr(model, "no_embed_class", False) and prefix:
        state["cls_token"] = token + table[:, :1]
        if registers is not None and prefix == 1 + registers.shape[1]:
            state["reg_token"] = registers + table[:, 1:prefix]
        state["pos_embed"] = table[:, prefix:]
    elif not getattr(model, "no_embed_class", False):
        lacking = int(model.num_prefix_tokens) - prefix  # type: ignore[arg-type]
        if lacking > 0:  # a table without rows for the prefix adds nothing to it
            state["pos_embed"] = torch.cat(
                [table[:, :prefix], table.new_zeros(1, lacking, table.shape[2]), table[:, prefix:]], 1
            )


def drop_zero_bias(plain: Plain) -> None:
    """Drop zero attention biases: DINOv3's distilled models have them, timm's models do not."""
    keys = [key for key in plain.state if key.endswith(".attn.qkv.bias")]
    if keys and not any(plain.state[key].count_nonzero() for key in keys):
        for key in keys:
            del plain.state[key]
            plain.ignored[plain.names[key]] = "zero throughout, and the model has no such bias"


def _settle_attention(plain: Plain, expected: dict[str, torch.Size], what: str) -> None:
    """Split one qkv as timm's Eva does: a bias for query and value only, or three projections."""
    state = plain.state
    for key in [key for key in state if ".attn.qkv." in key and key not in expected]:
        block, kind = key.split("qkv.")
        if state[key].ndim == 0 or state[key].shape[0] % 3:
            continue
        parts = dict(zip("qkv", state[key].chunk(3), strict=True))
        targets = {letter: f"{block}{letter}_bias" for letter in "qkv"} if kind == "bias" else {}
        if f"{block}q_proj.{kind}" in expected:
            targets = {letter: f"{block}{letter}_proj.{kind}" for letter in "qkv"}
        if targets.get("q") not in expected:
            continue
        if targets["k"] not in expected and parts["k"].count_nonzero():
            raise UserError(f"{what}: {plain.names[key]} has a key bias, which timm's model of this kind leaves out")
        del state[key]
        for letter, target in targets.items():
            if target in expected:
                state[target], plain.names[target] = parts[letter], plain.names[key]


def _tidy(value: Tensor, shape: torch.Size, what: str) -> Tensor:
    """Convert to fp32, contiguous and in its own memory.

    Raises:
        UserError: If it has another shape than expected, NaN or infinity.
    """
    if value.shape != shape:
        raise UserError(f"{what} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.numel() * value.element_size()
    value = (
        value.to(torch.float32)
        if value.dtype != torch.float32
        else value
        if whole
        else value.clone(memory_format=torch.contiguous_format)
    )
    value = value.contiguous()
    low, high = value.aminmax() if value.numel() else (value.new_zeros(()), value.new_zeros(()))
    if not (low.isfinite() and high.isfinite()):
        raise UserError(f"{what} holds NaN or infinity; the file is damaged, or its training diverged")
    return value


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
