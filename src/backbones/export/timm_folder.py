"""Folder that `timm.create_model` loads: plain weights with the merged adapter, and timm's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save

from src.backbones.backbone import Backbone
from src.backbones.export.merging import fit_positions, merged, native_size
from src.core.atomic_files import write_bytes, write_text
from src.core.errors import UserError

_TOLERANCE = 1e-5  # of the largest feature; the same network in the same library


def to_timm(backbone: Backbone, folder: Path, size: int | None = None) -> Path:
    """Write `model.safetensors` and `config.json`, and compare what timm loads with the backbone.

    Args:
        backbone: With an adapter that can be merged, or without one.
        folder: Target folder; created if needed.
        size: Resample the position table to square images of this side, pixels; None leaves it.

    Raises:
        UserError: If the adapter cannot be merged, the size does not fit, or timm builds another network.
    """
    own = merged(backbone, "timm")
    if size is not None:
        fit_positions(own.trunk, size)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    state = {name: value.contiguous() for name, value in sorted(own.trunk.state_dict().items())}
    write_bytes(path, save(state, {"format": "pt"}))
    write_text(folder / "config.json", json.dumps(_configuration(own), indent=2) + "\n")
    _compare(own, path)
    return path


def creation(backbone: Backbone, path: Path, size: int | None = None) -> str:
    """The line of Python that loads the file."""
    given = _options(backbone) | ({} if size is None else {"img_size": size})
    options = "".join(f", {name}={value!r}" for name, value in given.items())
    return f'timm.create_model("{backbone.name}", checkpoint_path={str(path)!r}, num_classes=0{options})'


def _options(own: Backbone) -> dict[str, Any]:
    return {"dynamic_img_size": True, **own.trunk.creation_options}


def _configuration(own: Backbone) -> dict[str, Any]:
    """The layout of timm's own repositories (`hf-hub:` and `local-dir:` names)."""
    known = own.trunk.pretrained_cfg
    native = native_size(own.trunk)
    size = list(known["input_size"]) if native is None else [3, *native]
    kept = {key: known[key] for key in ("interpolation", "crop_pct", "crop_mode", "license") if known.get(key)}
    normalisation = {key: list(map(float, known[key])) for key in ("mean", "std")}
    return {
        "architecture": own.name,
        "num_classes": 0,
        "num_features": own.width,
        "model_args": _options(own),
        "pretrained_cfg": {"input_size": size, "num_classes": 0, **normalisation, **kept},
    }


def _compare(own: Backbone, path: Path) -> None:
    model: Any = timm.create_model(own.name, checkpoint_path=str(path), num_classes=0, **_options(own)).eval()
    height, width = native_size(own.trunk) or (4 * own.patch_size, 4 * own.patch_size)
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = own(images)
        expected = torch.cat((features.cls[:, None], features.extra, features.patches), dim=1)
        found = model.forward_features(own.normalise(images))
    difference = float((expected - found).abs().max()) / max(1.0, float(expected.abs().max()))
    if not difference <= _TOLERANCE:
        raise UserError(
            f"timm's {own.name} differs from this backbone by {difference:.1e} with the same weights, because these "
            "weights use another epsilon or other rotary periods; use --to onnx or --to torch-export"
        )
