"""Read a trained head's classes and adapter from its checkpoint before anything is built.

A head is self-contained: `test`, `validate` and `predict` need neither its adapter file nor a folder with all of its
classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_warn

from src.core.checkpoint_files import load_checkpoint

ADAPTER = "model.init_args.backbone.init_args.adapter"


def recorded(path: str | Path) -> dict[str, Any]:
    """The entries `classes` and `adapter` of a head's checkpoint; empty for any other."""
    checkpoint = load_checkpoint(path, announce=False)
    return {key: checkpoint[key] for key in ("classes", "adapter") if key in checkpoint}


def drop_lost_adapter(config: Any, arguments: Sequence[str], record: Mapping[str, Any] | None) -> None:
    """Remove a missing adapter file from a configuration, since the checkpoint holds its tensors.

    A file given on the command line is kept, and reported as missing when it is read. A configuration without an
    adapter gets that of the checkpoint, too.

    Args:
        config: Configuration of one command; changed in place.
        arguments: The command line.
        record: Record of the checkpoint's adapter; None if it has none, which changes nothing.
    """
    path = config.get(ADAPTER)
    named = any(argument.partition("=")[0] == f"--{ADAPTER}" for argument in arguments)
    if record is None or not isinstance(path, str | None) or (path is not None and (named or Path(path).exists())):
        return
    config[ADAPTER] = None
    config[f"{ADAPTER}_scale"] = 1.0  # the checkpoint records the adapter's strength
    trains = config.get("model.init_args.train") == "head+adapters"  # expects an adapter when it is built
    if trains and config.get("model.init_args.adapter") is None:
        config["model.init_args.adapter"] = Namespace(
            class_path=record["kind"], init_args=Namespace(json.loads(record["sizes"]))
        )
    if path is not None:
        rank_zero_warn(f"{path} not found; using the adapter in the checkpoint")
