"""The EMA teacher (docs/method.md, "Symbols" and section 9)."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from src.backbones.adapters.selective import FrozenValues
from src.pretraining.network import Network, NetworkOutput


class Teacher(nn.Module):
    """An exponential moving average of a student that shares every frozen tensor with it.

    Invariants: trainable tensors of the student have their own storage here and never require gradients; frozen
    tensors, and the frozen values of trainable ones, are the student's own objects; the teacher is always in evaluation
    mode.

    Args:
        student: The network to follow; its frozen tensors must be frozen already.
    """

    def __init__(self, student: Network) -> None:
        super().__init__()
        frozen = [p for p in student.parameters() if not p.requires_grad]
        values = [module for module in student.modules() if isinstance(module, FrozenValues)]
        shared: dict[int, Any] = {id(one): one for one in (*frozen, *values)}
        self._followed = [name for name, p in student.named_parameters() if p.requires_grad]
        self.network: Network = copy.deepcopy(student, memo=shared).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, even if the parent module changes."""
        return super().train(False)

    @torch.no_grad()
    def update(self, student: Network, momentum: float) -> None:
        """Move each averaged tensor by `(1 − momentum) · (student − teacher)`; call once per optimiser step."""
        moving: list[Tensor] = [self.network.get_parameter(name) for name in self._followed]
        followed: list[Tensor] = [student.get_parameter(name) for name in self._followed]
        torch._foreach_lerp_(moving, followed, 1 - momentum)

    def forward(
        self, images: Tensor, temperature: float, attention: bool = False, features: bool = True
    ) -> NetworkOutput:
        """Run the network without gradients.

        Args:
            images: Global views `[V, B, 3, S, S]`.
            temperature: Temperature of the targets.
            attention: Also return the class token's attention.
            features: True if any objective reads the tokens, which are otherwise not computed.
        """
        if not features:
            return self.network.without_features(images, temperature)
        with torch.no_grad():
            branch: NetworkOutput = self.network(images, temperature, attention)
            return branch
