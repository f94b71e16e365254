"""Shapes of an adapter's parameters, found without memory for them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from src.backbones.adapters.adapter import Adapter
from src.core.errors import UserError


def added_shapes(trunk: nn.Module, present: Adapter | None, kind: Adapter) -> dict[str, torch.Size]:
    """Shapes by name of the parameters that a kind would train in a trunk, which stays as it is.

    The kind is injected into a copy without data, on the meta device, where sizes out of a file cost nothing.

    Args:
        trunk: A timm ViT.
        present: The kind that is in it now, or None.
        kind: The kind to inject in its place.

    Raises:
        UserError: If the kind does not fit this trunk, or finds nothing to adapt in it.
    """
    memo: dict[int, Any] = {}
    for parameter in trunk.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in trunk.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    with torch.device("meta"):
        twin = copy.deepcopy(trunk, memo)
        if present is not None:
            present.remove(twin)
        try:
            kind.inject(twin)
        except (RuntimeError, TypeError, OverflowError) as error:
            raise UserError(f"{kind} cannot be put into this backbone: {error}") from error
    shapes = {name: parameter.shape for name, parameter in twin.named_parameters() if parameter.requires_grad}
    if not shapes:
        raise UserError(f"{kind} matches nothing in this backbone")
    return shapes
