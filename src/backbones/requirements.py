"""Check a backbone's arguments before it is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.backbones.checkpoints.fitting import meta_model
from src.backbones.checkpoints.loading import find_file
from src.backbones.checkpoints.reading import NO_WEIGHTS
from src.core.errors import MissingFile


def missing_files(arguments: Mapping[str, Any]) -> list[str]:
    """Return a line for each missing file in a backbone's arguments.

    Args:
        arguments: All arguments of `Backbone` by name. Repositories (`hub`, `hf://org/name`) are not queried.
    """
    weights, adapter = str(arguments["weights"]), arguments.get("adapter")
    lines = []
    if weights not in ("hub", "none") and not weights.startswith("hf://"):
        try:
            path = find_file(weights)
            if not path.exists():
                lines.append(NO_WEIGHTS.format(path))
        except MissingFile as error:
            lines.append(str(error))
    if adapter is not None and not str(adapter).startswith("hf://") and not Path(adapter).exists():
        lines.append(f"adapter file {adapter} not found")
    return lines


def patch_size_of(name: str) -> int:
    """Return the side of a timm model's patches in pixels.

    Raises:
        UserError: If timm has no such model, or it is not a plain vision transformer.
    """
    return int(meta_model(name).patch_embed.patch_size[0])  # type: ignore[union-attr, index]
