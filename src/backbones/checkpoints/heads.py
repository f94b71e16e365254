"""Rename a published projection head's tensors to those of `ProjectionHead`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from src.core.errors import UserError

_NAMES = {
    "last_layer.weight_g": "prototypes.parametrizations.weight.original0",
    "last_layer.weight_v": "prototypes.parametrizations.weight.original1",
}


def projection_head_state(head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of a DINO, iBOT or UDI file (`LoadedWeights.head`) for `ProjectionHead.load_state_dict`.

    Sizes follow from the tensors: `mlp.0.weight` [hidden, width], `mlp.4.weight` [bottleneck, hidden],
    `last_layer.weight_v` [prototypes, bottleneck]. iBOT's separate last layer for patches is left out: here one head
    serves class token and patches.

    Raises:
        UserError: If there is no head, or it has batch norm, and so another order of layers.
    """
    if not head:
        raise UserError("the checkpoint holds no projection head (its full version does, not the backbone alone)")
    linear = {name: value for name, value in head.items() if name.startswith("mlp.")}
    if any(
        "running_" in name or value.ndim == 0 or name.endswith(("1.weight", "1.bias")) for name, value in linear.items()
    ):
        raise UserError("the checkpoint's projection head has batch norm layers; ProjectionHead has none")
    if not all(value.isfinite().all() for value in head.values()):
        raise UserError("the checkpoint's projection head holds NaN or infinity")
    scale = head.get("last_layer.weight_g", torch.ones(len(head["last_layer.weight_v"]), 1))
    last = {_NAMES["last_layer.weight_g"]: scale, _NAMES["last_layer.weight_v"]: head["last_layer.weight_v"]}
    return linear | last
