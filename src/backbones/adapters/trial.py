"""Shapes of an adapter's parameters on a trunk, without allocating memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from src.backbones.adapters.adapter import Adapter
from src.core.errors import UserError


def injected_twin(trunk: nn.Module, present: Adapter | None, kind: Adapter) -> nn.Module:
    """Copy of a trunk on the meta device with a kind installed, where sizes read from a file cost nothing.

    The parameters that require gradients are those that the kind would train.

    Args:
        trunk: A timm ViT.
        present: The kind installed in it, or None.
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
    if not any(parameter.requires_grad for parameter in twin.parameters()):
        raise UserError(f"{kind} matches nothing in this backbone")
    return twin
