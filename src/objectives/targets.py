"""How a teacher's scores become targets (method, section 4).

Shapes: `[..., K]`, K prototypes; every leading position is one sample of a level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from src.objectives.reduction import sum_over_ranks


class Targets(nn.Module, ABC):
    """Turns scores into distributions over prototypes, without gradient and in at least float32."""

    def build(self, prototypes: int) -> None:
        """Make the state that depends on K; called once by the objective."""

    @abstractmethod
    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        """Targets `[..., K]` whose last axis sums to one; state, if any, moves on by this batch."""


class Centring(Targets):
    """`softmax((scores − m) / τ)` with m a moving average of the mean score over all ranks, weighted by count.

    Args:
        momentum: Of the centre; 0.9 as in DINO and UDI.
    """

    centre: Tensor

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum

    def build(self, prototypes: int) -> None:
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        targets = ((scores - self.centre) / temperature).softmax(dim=-1)
        rows = scores.flatten(0, -2)
        total = sum_over_ranks(rows.sum(dim=0))
        count = sum_over_ranks(torch.tensor(float(len(rows)), device=rows.device, dtype=rows.dtype))
        self.centre.lerp_((total / count).to(self.centre.dtype), 1 - self.momentum)
        return targets


class SinkhornKnopp(Targets):
    """Targets that use all prototypes equally over the batch of all ranks (SwAV, DINOv2).

    Args:
        iterations: Alternations of the two normalisations; 3 as in DINOv2.
    """

    def __init__(self, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations

    @torch.no_grad()
    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        # [samples, K]; scores are cosines, so subtracting 1, a constant that the norms take out, keeps exp in range
        weights = ((scores.flatten(0, -2) - 1) / temperature).exp()
        for _ in range(self.iterations):
            weights = weights / sum_over_ranks(weights.sum(dim=0)).clamp_min(torch.finfo(weights.dtype).tiny)
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights.view_as(scores)
