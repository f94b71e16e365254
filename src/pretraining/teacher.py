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

    Invariants: what trains in the student has its own storage here and never requires a gradient; what is frozen in
    the student is the same object here; the frozen values of what trains in the student are the student's; the teacher
    is always in evaluation mode.

    Args:
        student: The network to follow. Its frozen tensors must already be frozen.
    """

    def __init__(self, student: Network) -> None:
        super().__init__()
        frozen = [p for p in student.parameters() if not p.requires_grad]
        values = [module for module in student.modules() if isinstance(module, FrozenValues)]
        shared: dict[int, Any] = {id(one): one for one in (*frozen, *values)}
        self._followed = [name for name, p in student.named_parameters() if p.requires_grad]
        self.network: Network = copy.deepcopy(student, memo=shared).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the surrounding module does."""
        return super().train(False)

    @torch.no_grad()
    def update(self, student: Network, momentum: float) -> None:
        """Move each followed tensor by `(1 − momentum) · (student − teacher)`; call once per optimiser step."""
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
            attention: Also give the class token's attention.
            features: Whether any objective reads the tokens; without, they are not computed.
        """
        if not features:
            return self.network.without_features(images, temperature)
        with torch.no_grad():
            branch: NetworkOutput = self.network(images, temperature, attention)
            return branch
