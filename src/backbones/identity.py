"""Identity of a backbone's features: everything that determines their values, as recorded in checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from src.backbones.adapters.kinds import class_path, read_kind, settings_text
from src.backbones.backbone import Backbone
from src.backbones.checkpoints import weight_hash

UNTOUCHED = ""  # hash of an adapter that starts as the identity, whose random values do not matter


def identity(backbone: Backbone) -> dict[str, Any]:
    """Name, weights and reading of a backbone, as plain values, without its adapter (`adapter_record`)."""
    config = backbone.trunk.pretrained_cfg
    grid = tuple(int(side) for side in backbone.trunk.patch_embed.grid_size)
    return {
        "name": backbone.name,
        "weight_hash": backbone.weight_hash,
        "network": backbone.network,
        "positions": backbone.positions,
        "position_grid": None if grid[0] == grid[1] else list(grid),  # not visible in the weights' shapes
        "second_class_token": backbone.second_class_token,
        "mean": [float(value) for value in config["mean"]],
        "std": [float(value) for value in config["std"]],
    }


def adapter_record(backbone: Backbone, untouched: bool = False) -> dict[str, Any] | None:
    """Kind, sizes, strength and tensor hash of a backbone's adapter, as plain values; None without one.

    Args:
        backbone: With or without an adapter.
        untouched: The adapter starts as the identity, not from a file.
    """
    if backbone.adapter is None:
        return None
    return {
        "kind": class_path(backbone.adapter),
        "sizes": settings_text(backbone.adapter),
        "scale": float(backbone.adapter_scale),
        "tensors": UNTOUCHED
        if untouched
        else weight_hash({name: backbone.get_parameter(name) for name in backbone.adapter_names}),
    }


def install_recorded(backbone: Backbone, record: Mapping[str, Any]) -> None:
    """Install the adapter that a record describes in a backbone that has none; its tensors are loaded afterwards.

    Raises:
        UserError: If this version lacks the kind, its package is neither imported nor trusted, or its settings differ.
    """
    kind = read_kind(record["kind"], record["sizes"], backbone.trust)
    backbone.install(kind)
    if record["scale"] != 1:
        backbone.attenuate(record["scale"])


def described(record: Mapping[str, Any] | None) -> str:
    """Description of an adapter's record, for messages."""
    if record is None:
        return "no adapter"
    settings = json.loads(record["sizes"]) | ({"adapter_scale": record["scale"]} if record["scale"] != 1 else {})
    sizes = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    values = f"tensors {record['tensors']}" if record["tensors"] != UNTOUCHED else "started as the identity"
    return f"adapter {record['kind'].rpartition('.')[2]}({sizes}), {values}"


def differing(made_for: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, str] | None:
    """Description of two backbones by name and by the entries that differ; None if none do."""
    keys = [key for key in here if made_for.get(key) != here[key]]
    if not keys:
        return None
    told = [key for key in keys if key != "name"]
    first, second = (
        " ".join([str(one.get("name")), *(f"with {key} {one.get(key)}" for key in told[:1])])
        + "".join(f", {key} {one.get(key)}" for key in told[1:])
        for one in (made_for, here)
    )
    return first, second
