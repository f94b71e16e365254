"""Targets from a teacher's scores: centring or Sinkhorn–Knopp (docs/method.md, section 4).

Shapes: `[..., K]`, K prototypes; every leading position is one sample of a level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from src.core.distributed import max_over_ranks, mean_over_ranks, sum_over_ranks
from src.core.numbers import check_number
from src.pretraining.cross_entropy import row_blocks


class Targets(nn.Module, ABC):
    """Turns scores into distributions over prototypes, without gradient and in at least float32.

    Args:
        temperature: τ_t of this level; None takes the schedule's. Our choice: class tokens of one domain are so similar
            that at the schedule's temperatures their targets are nearly uniform (docs/small-runs.md).

    Attributes:
        independent: True if a row's distribution depends on no other row, in this or an earlier batch.
    """

    independent = False

    def __init__(self, temperature: float | None = None) -> None:
        super().__init__()
        if temperature is not None:
            check_number("targets.temperature", temperature, open_left=True)
        self.temperature = temperature

    def build(self, prototypes: int) -> None:
        """Create the state that depends on K; called once by the objective."""

    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        """Targets `[..., K]` whose last axis sums to one; updates the state, if any.

        Args:
            scores: The teacher's, `[..., K]`.
            temperature: τ_t of the schedule.
        """
        with torch.no_grad():
            return self.distributions(scores, temperature if self.temperature is None else self.temperature)

    def blocks(
        self, codes: Tensor, prototypes: Tensor, temperature: float, asked: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Targets of the scores `codes · prototypesᵀ`, by blocks of rows; updates the state, if any.

        Args:
            codes: The teacher's, `[M, C]`.
            prototypes: The teacher's, `[K, C]`.
            temperature: τ_t of the schedule.
            asked: Requested rows, int64 `[m]`; None for all, in order. Shared state, such as a centre, depends on all
                rows in either case.

        Yields:
            Positions among the requested rows and their distributions `[rows, K]`, valid until the next block.
        """
        with torch.no_grad():
            held = temperature if self.temperature is None else self.temperature
            yield from self.block_distributions(codes, prototypes, held, asked)

    @abstractmethod
    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
        """`forward` at the effective temperature."""

    def block_distributions(
        self, codes: Tensor, prototypes: Tensor, temperature: float, asked: Tensor | None
    ) -> Iterator[tuple[slice, Tensor]]:
        """`blocks` at the effective temperature; by default all rows at once, for targets that depend on each other."""
        yield _picked(self.distributions(codes @ prototypes.T, temperature), asked)


class Uncentred(Targets):
    """`softmax(scores / τ)`, for prototypes that are balanced from the start (`CalibratedHead`)."""

    independent = True

    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
        return (scores / temperature).softmax(dim=-1)

    def block_distributions(
        self, codes: Tensor, prototypes: Tensor, temperature: float, asked: Tensor | None
    ) -> Iterator[tuple[slice, Tensor]]:
        codes = codes if asked is None else codes[asked]
        for rows in row_blocks(len(codes), len(prototypes), codes.device):
            yield rows, self.distributions(codes[rows] @ prototypes.T, temperature)


class Centring(Targets):
    """`softmax((scores − m) / τ)` with m a moving average of the mean score over all ranks, weighted by count.

    Args:
        momentum: Momentum of the centre; 0.9 as in DINO and UDI.
        temperature: As in `Targets`.
    """

    centre: Tensor

    def __init__(self, momentum: float = 0.9, temperature: float | None = None) -> None:
        super().__init__(temperature)
        check_number("targets.momentum", momentum, most=1.0)
        self.momentum = momentum

    def build(self, prototypes: int) -> None:
        self.register_buffer("centre", torch.zeros(prototypes))

    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
        targets = ((scores - self.centre) / temperature).softmax(dim=-1)
        self._move(mean_over_ranks(scores.flatten(0, -2)))
        return targets

    def block_distributions(
        self, codes: Tensor, prototypes: Tensor, temperature: float, asked: Tensor | None
    ) -> Iterator[tuple[slice, Tensor]]:
        shift = self.centre.to(codes.dtype) / -temperature
        self._move(prototypes @ mean_over_ranks(codes))  # the mean score, since scores are linear in the codes
        scaled = (codes if asked is None else codes[asked]) / temperature
        for rows in row_blocks(len(scaled), len(prototypes), codes.device):
            yield rows, torch.addmm(shift, scaled[rows], prototypes.T).softmax(dim=-1)

    def _move(self, mean: Tensor) -> None:
        self.centre.lerp_(mean.to(self.centre.dtype), 1 - self.momentum)


class SinkhornKnopp(Targets):
    """Targets that use all prototypes equally over the batch of all ranks (SwAV, DINOv2).

    Args:
        iterations: Alternations of the two normalisations; 3 as in DINOv2.
        temperature: As in `Targets`.
    """

    def __init__(self, iterations: int = 3, temperature: float | None = None) -> None:
        super().__init__(temperature)
        check_number("targets.iterations", iterations, least=1)  # fewer leave rows that do not sum to one
        self.iterations = iterations

    def distributions(self, scores: Tensor, temperature: float) -> Tensor:
        return self._balance(scores.flatten(0, -2) / temperature).view_as(scores)

    def block_distributions(
        self, codes: Tensor, prototypes: Tensor, temperature: float, asked: Tensor | None
    ) -> Iterator[tuple[slice, Tensor]]:
        yield _picked(self._balance((codes @ prototypes.T).div_(temperature)), asked)

    def _balance(self, logits: Tensor) -> Tensor:
        """Targets of logits `[samples, K]`, in place; in logarithms, since weights may overflow."""
        blocks = list(row_blocks(len(logits), logits.shape[-1], logits.device))
        for _ in range(self.iterations):
            largest = max_over_ranks(logits.amax(dim=0))
            sums = [(logits[rows] - largest).exp_().sum(dim=0) for rows in blocks]
            logits.sub_(largest + sum_over_ranks(torch.stack(sums).sum(dim=0)).log())
            for rows in blocks:
                logits[rows] -= logits[rows].logsumexp(dim=-1, keepdim=True)
        return logits.exp_()


def _picked(distributions: Tensor, asked: Tensor | None) -> tuple[slice, Tensor]:
    """Distributions of the requested rows, as one block."""
    picked = distributions if asked is None else distributions[asked]
    return slice(0, len(picked)), picked


class TokenMean(nn.Module):
    """The mean token of a level, as a moving average over all ranks, weighted by count, without bias towards its start.

    Subtracted from a level's tokens before the head, it leaves the differences between images of the domain.

    Args:
        width: D.
        momentum: Momentum of the average; 0.9 is our choice.
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
        """The mean `[D]` after an update with tokens `[..., D]`."""
        rows = tokens.flatten(0, -2).to(self.total.dtype)
        self.total.lerp_(mean_over_ranks(rows), 1 - self.momentum)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.momentum)
        return self.total / self.weight
