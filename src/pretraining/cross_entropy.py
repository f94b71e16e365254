"""Cross-entropy over K prototypes from bottleneck codes, without keeping a K-wide tensor for backward.

Source: docs/method.md, section 4.

Scores are linear in the bottleneck code c and Σ_k p_t,k = 1, so `H(t, s) = logsumexp_k(W_k·c / τ_s) − (u·c) / τ_s`,
`u = Σ_k p_t,k W_k`, W the student's prototypes. An objective is a weighted sum of such terms, where a student token n
may be compared with several targets m, each with a coefficient A_nm:

    Σ_nm A_nm H(t_m, s_n) = Σ_n w_n · logsumexp_k(W_k·c_n / τ_s) − Σ_m (u_m·d_m) / τ_s,
    w_n = Σ_m A_nm,  d_m = Σ_n A_nm c_n.

So each row of scores is computed once for any number of terms, and a target interpolated between patches costs C
numbers, not K. Value and gradients come from the same pass over blocks of rows; scores are freed after each block.

Shapes: N student tokens · M targets · C width of the codes · K prototypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

Blocks = Iterable[tuple[slice, Tensor]]

_BLOCK_ELEMENTS = {"cpu": 1 << 20}  # scores computed at once: within a processor's cache, and
_BLOCK_ELEMENTS_ELSEWHERE = 1 << 25  # enough rows to fill a GPU, 128 MiB of float32


def cross_entropy(targets: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """`H(t, s) = −Σ p_t log softmax(scores / τ_s)`, `[..., K]` to `[...]` (docs/method.md, section 4)."""
    return -(targets * F.log_softmax(scores / temperature, dim=-1)).sum(dim=-1)


def row_blocks(rows: int, prototypes: int, device: torch.device) -> Iterator[slice]:
    """Successive slices of `rows`, sized for the scores computed at once on the device."""
    step = max(1, _BLOCK_ELEMENTS.get(device.type, _BLOCK_ELEMENTS_ELSEWHERE) // prototypes)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def weighted_cross_entropy(
    codes: Tensor, weights: Tensor, pulls: Tensor, prototypes: Tensor, temperature: float, targets: Blocks
) -> Tensor:
    """`Σ_n w_n · logsumexp_k(W_k·c_n / τ_s) − Σ_m (u_m·d_m) / τ_s`, a scalar; float32 matrix products inside autocast.

    Args:
        codes: c, the student's codes `[..., C]`, N rows.
        weights: w, without gradient, `[...]`, with the codes' leading axes.
        pulls: d `[..., C]`, M rows: the sum of the codes compared with each target, times their coefficients.
        prototypes: W `[K, C]`, the student's.
        temperature: τ_s.
        targets: Distributions over prototypes by blocks of the pulls' rows, as `Targets.blocks` gives them.
    """
    differentiable = torch.is_grad_enabled()
    with torch.autocast(codes.device.type, enabled=False):
        partition = _LogPartition.apply(
            codes.flatten(0, -2), weights.flatten(), prototypes, temperature, differentiable
        )
        agreement = _Agreement.apply(pulls.flatten(0, -2), prototypes, targets, differentiable)
    loss: Tensor = partition - agreement / temperature
    return loss


class _LogPartition(Function):
    """`Σ_n w_n · logsumexp_k(W_k·c_n / τ)`; also computes the factors for backward."""

    @staticmethod
    def forward(
        ctx: Any, codes: Tensor, weights: Tensor, prototypes: Tensor, temperature: float, differentiable: bool
    ) -> Tensor:
        to_codes, to_prototypes = _gradients(ctx, codes, prototypes, 0, 2, differentiable)
        scaled = codes / temperature
        total = codes.new_zeros(())
        for rows in row_blocks(len(codes), len(prototypes), codes.device):
            scores = scaled[rows] @ prototypes.T
            top = scores.amax(dim=-1, keepdim=True)
            exponentials = scores.sub_(top).exp_()
            sums = exponentials.sum(dim=-1, keepdim=True)
            total = total + weights[rows] @ (sums.log() + top).squeeze(-1)
            share = weights[rows, None] / sums  # exponentials times this are w_n times the student's distribution
            if to_codes is not None:
                torch.mm(exponentials, prototypes, out=to_codes[rows])
                to_codes[rows] *= share / temperature
            if to_prototypes is not None:
                to_prototypes.addmm_(exponentials.T, scaled[rows] * share)
        ctx.save_for_backward(to_codes, to_prototypes)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_codes, to_prototypes = _times(ctx.saved_tensors, gradients[0])
        return to_codes, None, to_prototypes, None, None


class _Agreement(Function):
    """`Σ_m u_m·d_m` with `u_m = Σ_k p_m,k W_k`, the expected prototype of each target."""

    @staticmethod
    def forward(ctx: Any, pulls: Tensor, prototypes: Tensor, targets: Blocks, differentiable: bool) -> Tensor:
        _, to_prototypes = _gradients(ctx, pulls, prototypes, 0, 1, differentiable)
        expected = torch.empty_like(pulls)
        for rows, distributions in targets:
            torch.mm(distributions, prototypes, out=expected[rows])
            if to_prototypes is not None:
                to_prototypes.addmm_(distributions.T, pulls[rows])
        ctx.save_for_backward(expected, to_prototypes)
        return (expected * pulls).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_pulls, to_prototypes = _times(ctx.saved_tensors, gradients[0])
        return to_pulls, to_prototypes, None, None


def _gradients(
    ctx: Any, inputs: Tensor, prototypes: Tensor, inputs_at: int, prototypes_at: int, differentiable: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Buffers for the required gradients, zero for the prototypes."""
    to_inputs = torch.empty_like(inputs) if differentiable and ctx.needs_input_grad[inputs_at] else None
    to_prototypes = torch.zeros_like(prototypes) if differentiable and ctx.needs_input_grad[prototypes_at] else None
    return to_inputs, to_prototypes


def _times(saved: tuple[Tensor | None, ...], gradient: Tensor) -> list[Tensor | None]:
    return [None if tensor is None else tensor * gradient for tensor in saved]
