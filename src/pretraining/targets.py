"""How a teacher's scores become targets (method, section 4).

Shapes: `[..., K]`, K prototypes; every leading position is one sample of a level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from src.core.distributed import max_over_ranks, sum_over_ranks


class Targets(nn.Module, ABC):
    """Turns scores into distributions over prototypes, without gradient and in at least float32.

    Args:
        temperature: τ_t of this level alone; None takes the schedule's. Ours: class tokens of one domain are so alike
            that at the schedule's temperatures their targets are all but uniform (docs/small-runs.md).
    """

    def __init__(self, temperature: float | None = None) -> None:
        super().__init__()
        self.temperature = temperature

    def build(self, prototypes: int) -> None:
        """Make the state that depends on K; called once by the objective."""

    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        """Targets `[..., K]` whose last axis sums to one; state, if any, moves on by this batch.

        Args:
            scores: The teacher's, `[..., K]`.
            temperature: τ_t as the schedule has it.
        """
        with torch.no_grad():
            return self.distributions(scores, temperature if self.temperature is None else self.temperature)

    @abstractmethod
    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
        """`forward` at the temperature that holds."""


class Centring(Targets):
    """`softmax((scores − m) / τ)` with m a moving average of the mean score over all ranks, weighted by count.

    Args:
        momentum: Of the centre; 0.9 as in DINO and UDI.
        temperature: As in `Targets`.
    """

    centre: Tensor

    def __init__(self, momentum: float = 0.9, temperature: float | None = None) -> None:
        super().__init__(temperature)
        self.momentum = momentum

    def build(self, prototypes: int) -> None:
        self.register_buffer("centre", torch.zeros(prototypes))

    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
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
        temperature: As in `Targets`.
    """

    def __init__(self, iterations: int = 3, temperature: float | None = None) -> None:
        super().__init__(temperature)
        self.iterations = iterations

    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
        logits = scores.flatten(0, -2) / temperature  # [samples, K]; logarithms of the weights, which may not fit
        for _ in range(self.iterations):
            logits = (logits - _log_sum_over_samples(logits)).log_softmax(dim=-1)
        return logits.exp().view_as(scores)


def _log_sum_over_samples(logits: Tensor) -> Tensor:
    """log Σ exp over the samples of all ranks, `[K]`; the largest logit of all ranks is taken out before exp."""
    largest = max_over_ranks(logits.amax(dim=0))
    return largest + sum_over_ranks((logits - largest).exp().sum(dim=0)).log()


class TokenMean(nn.Module):
    """The mean token of a level, as a moving average over all ranks, weighted by count; no bias towards its start.

    Taken out of a level's tokens before the head, it leaves what tells one image of the domain from another.

    Args:
        width: D.
        momentum: Of the average; 0.9 is our choice.
    """

    total: Tensor
    weight: Tensor

    def __init__(self, width: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("total", torch.zeros(width))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """The mean `[D]` after moving on by tokens `[..., D]`."""
        rows = tokens.flatten(0, -2).to(self.total.dtype)
        mean = sum_over_ranks(rows.sum(dim=0)) / sum_over_ranks(rows.new_tensor(float(len(rows))))
        self.total.lerp_(mean, 1 - self.momentum)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.momentum)
        return self.total / self.weight
