"""The adapter file: what adaptation made, a few MB, tied to the weights it was made on (architecture, "Files on disk").

safetensors, one tensor per adapter parameter under its name in the backbone, and string metadata: format version,
backbone name, hash of the frozen weights, adapter kind and sizes, optimiser step, whose weights (teacher or student).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import safetensors
from safetensors.torch import load_file, save_file

from src.backbones import adapters
from src.core.errors import MissingFile, UserError

if TYPE_CHECKING:
    from src.backbones.backbone import Backbone

FORMAT_VERSION = "1"


def save_adapter(
    path: str | Path, backbone: Backbone, step: int, whose: Literal["teacher", "student"], config_hash: str = ""
) -> None:
    """Write the backbone's adapter.

    Args:
        path: File to write; it appears whole or not at all.
        backbone: A backbone with an adapter in it.
        step: Optimiser steps done.
        whose: Which of the two networks the backbone belongs to.
        config_hash: Hash of the configuration that made it, if there is one.

    Raises:
        UserError: If the backbone carries no adapter.
    """
    if backbone.adapter is None:
        raise UserError(f"{backbone.name} carries no adapter to save; install one first")
    metadata = {
        "format": FORMAT_VERSION,
        "backbone": backbone.name,
        "weight_hash": backbone.weight_hash,
        "adapter": type(backbone.adapter).__name__,
        "sizes": json.dumps(dataclasses.asdict(backbone.adapter), sort_keys=True),  # type: ignore[call-overload]
        "step": str(step),
        "whose": whose,
        "config_hash": config_hash,
    }
    tensors = {name: backbone.get_parameter(name).detach().cpu().contiguous() for name in backbone.adapter_names}
    temporary = Path(path).with_suffix(".partial")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, temporary, metadata)
    temporary.replace(path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of an adapter file.

    Raises:
        MissingFile: If there is no such file.
        UserError: If it is no adapter file of this format.
    """
    if not Path(path).is_file():
        raise MissingFile(f"adapter file {path} not found; `fit` and `adapt` write one into their run folder")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:
        raise UserError(f"{path} is no safetensors file ({error}); expected an adapter.safetensors") from None
    missing = {"format", "backbone", "weight_hash", "adapter", "sizes", "step"} - metadata.keys()
    if missing or metadata["format"] != FORMAT_VERSION:
        found = f"format {metadata['format']}" if "format" in metadata else "no adapter metadata"
        raise UserError(f"{path} is no adapter file of format {FORMAT_VERSION}: found {found}")
    return metadata


def load_adapter(backbone: Backbone, path: str | Path) -> dict[str, str]:
    """Put the adapter of a file into a backbone; one that is in already is replaced.

    Returns:
        The file's metadata.

    Raises:
        MissingFile: If there is no such file.
        UserError: If the file was made on other weights, or its tensors do not fit its own description.
    """
    metadata = read_metadata(path)
    if metadata["weight_hash"] != backbone.weight_hash:
        raise UserError(
            f"{path} was made on {metadata['backbone']} with weights {metadata['weight_hash']}, but this backbone is "
            f"{backbone.name} with weights {backbone.weight_hash}; load the same weights as in pre-training"
        )
    kind_class = getattr(adapters, metadata["adapter"], None)
    if metadata["adapter"] not in adapters.__all__ or kind_class is None:
        raise UserError(f"{path} holds a {metadata['adapter']}, which this version does not know")
    sizes = {
        key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(metadata["sizes"]).items()
    }
    tensors = load_file(path)
    backbone.uninstall()
    backbone.install(kind_class(**sizes))
    expected = {name: backbone.get_parameter(name) for name in backbone.adapter_names}
    wrong = sorted(expected.keys() ^ tensors.keys()) or [
        name for name in expected if expected[name].shape != tensors[name].shape
    ]
    if wrong:
        backbone.uninstall()
        raise UserError(f"{path} does not hold the tensors of its {metadata['adapter']}: {', '.join(wrong[:4])}")
    for name, parameter in expected.items():
        parameter.data.copy_(tensors[name])
    return metadata
