"""Choose one of several ViTs in a checkpoint: teacher, student, or a given prefix."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

from src.backbones.checkpoints.foreign import foreign_names
from src.backbones.checkpoints.layouts import Place, find_places
from src.backbones.checkpoints.reading import Source
from src.core.checkpoint_files import HASH
from src.core.errors import UserError

Network = Literal["teacher", "student"]

# As words within a part of a name: `teacher_backbone`, `momentum_encoder`, `ema_model`, `state_dict_ema`, …
_LABELS: tuple[tuple[Network, re.Pattern[str]], ...] = (
    ("teacher", re.compile(r"(?:^|_)(?:teacher|momentum|ema|target)(?:_|$)|(?:^|_)encoder_k$")),
    ("student", re.compile(r"(?:^|_)(?:student|online)(?:_|$)|(?:^|_)encoder_q$")),
)
_OWN = re.compile(r"(?:^|\.)state_dict\.(?:(?:student|teacher\.network)\.)?backbone\.trunk\.")


def choose_place(source: Source, network: Network, prefix: str | None = None) -> Place:
    """Find the requested ViT.

    Args:
        source: The file.
        network: Network of a self-distillation pair.
        prefix: Part of the prefix of the ViT's tensor names, such as `model.backbone`; empty for the top level.

    Raises:
        UserError: If there is none, if several cannot be distinguished, or if the requested network is missing.
    """
    places = find_places(source.tensors)
    if not places:
        raise UserError(_no_vit(source))
    if prefix is not None:
        places = _under(source, places, prefix)
    place = places[0] if prefix is not None and len(places) == 1 else _choose(source, places, network)
    foreign = foreign_names(str(source.path), [name for name in source.tensors if name.startswith(place.prefix)])
    if foreign:
        raise UserError(foreign)
    return place


def label(name: str) -> Network | None:
    """Return the network of a student–teacher pair that a name belongs to, from the first part of it that tells."""
    for part in name.split("."):
        for network, words in _LABELS:
            if words.search(part):
                return network
    return None


def _choose(source: Source, places: list[Place], network: Network) -> Place:
    momentum = [place for place in places if "base_encoder." in place.prefix]
    if momentum:  # MoCo v3's authors evaluate the base encoder, not its momentum copy
        return momentum[0]
    labels = {place: label(place.prefix) for place in places}
    chosen = [place for place in places if labels[place] == network]
    if not chosen and len(places) == 1 and labels[places[0]] is not None:
        other = labels[places[0]]
        raise UserError(f"{source.path} holds no {network}, only a {other} (network: {other})")
    chosen = chosen or [place for place in places if labels[place] is None]
    if len(chosen) != 1:
        prefixes = ", ".join(place.prefix or "(top level)" for place in chosen or places)
        raise UserError(
            f"{source.path} holds {len(places)} ViTs, any of which could be meant: {prefixes}; choose one with prefix: "
            f"{(chosen or places)[-1].prefix.rstrip('.') or '...'} (doctor: --prefix)"
        )
    return chosen[0]


def _under(source: Source, places: list[Place], prefix: str) -> list[Place]:
    """The ViTs whose prefix starts with the given one, or else contains it, split at dots."""
    wanted = f"{prefix.strip('.')}."
    if wanted == ".":
        found = [place for place in places if not place.prefix]
    else:
        found = [place for place in places if place.prefix == wanted]
        found = found or [place for place in places if place.prefix.startswith(wanted)]
        found = found or [place for place in places if f".{wanted}" in f".{place.prefix}"]
    if not found:
        prefixes = ", ".join(place.prefix or "(top level)" for place in places)
        raise UserError(f"{source.path} holds no ViT under prefix {prefix!r}; its ViTs have the prefixes: {prefixes}")
    return found


def _adapter(metadata: Mapping[str, str]) -> str:
    """The kind of an adapter file with its settings, as far as they can be read: `LoRA(alpha=16.0, rank=16)`."""
    kind = metadata["adapter"].rpartition(".")[2]
    try:
        settings = json.loads(metadata.get("sizes", ""))
    except (ValueError, RecursionError):
        return kind
    if not isinstance(settings, dict):
        return kind
    return f"{kind}({', '.join(f'{name}={value!r}' for name, value in sorted(settings.items()))})"


def _no_vit(source: Source) -> str:
    if {"weight_hash", "adapter"} <= source.metadata.keys():
        return (
            f"{source.path} is an adapter file of this project (a {_adapter(source.metadata)} for "
            f"{source.metadata.get('backbone')}): give it as adapter:, and its backbone's weights as weights:"
        )
    if HASH in source.metadata or any(map(_OWN.search, source.tensors)):
        return (
            f"{source.path} is a resume checkpoint of this project, which leaves the frozen weights out on purpose: "
            "resume from it with --ckpt_path; a pre-training run keeps its adapter in adapter.safetensors, given as "
            "adapter:"
        )
    foreign = foreign_names(str(source.path), list(source.tensors))
    some = ", ".join(sorted(source.tensors)[:4])
    return foreign or (
        f"{source.path} holds no vision transformer: no tensor is named …patch_embed.proj.weight or "
        f"…embeddings.patch_embeddings…; it holds {len(source.tensors)} tensors ({some}, …)"
    )
