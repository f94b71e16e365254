"""Low-rank updates of a linear layer, as a reparametrised weight or on its tokens.

Shapes: T tokens · P parts of the weight with their own update · r rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class LowRankUpdate(nn.Module):
    """Weight reparametrisation: `W ← W + scale · B A` on chosen rows, optionally `diag(out) W diag(in)` first.

    Args:
        weight: The frozen weight `[out, in]`.
        rows: Slices of rows, each with its own A `[r, in]` (Kaiming) and B `[rows, r]` (zero).
        rank: r.
        scale: Factor of the update.
        scaling: Also learn a scale per input and per output, both starting at one.

    Attributes:
        strength: Fraction of the way from the frozen to the updated weight, 0 to 1.
    """

    def __init__(self, weight: Tensor, rows: list[slice], rank: int, scale: float, scaling: bool) -> None:
        super().__init__()
        self.rows, self.scale, self.enabled, self.strength = rows, scale, True, 1.0
        counts = [len(range(*part.indices(weight.shape[0]))) for part in rows]
        self.down = nn.ParameterList([torch.empty(rank, weight.shape[1]) for _ in rows])
        self.up = nn.ParameterList([torch.zeros(count, rank) for count in counts])
        for start in self.down:
            nn.init.kaiming_uniform_(start, a=5**0.5)
        self.scale_in = nn.Parameter(torch.ones(weight.shape[1])) if scaling else None
        self.scale_out = nn.Parameter(torch.ones(weight.shape[0])) if scaling else None

    def forward(self, weight: Tensor) -> Tensor:
        if not self.enabled:
            return weight
        if self.scale_in is not None and self.scale_out is not None:
            updated = self.scale_out[:, None] * weight * self.scale_in
        else:
            updated = weight.clone()
        for part, down, up in zip(self.rows, self.down, self.up, strict=True):
            updated[part].addmm_(up, down, alpha=self.scale)
        return updated if self.strength == 1 else torch.lerp(weight, updated, self.strength)

    @property
    def on_tokens(self) -> bool:
        """True if the update is being learnt and is cheaper on the tokens: a weight's gradient is as large as the
        weight.

        Never with scales, which would keep scaled copies of inputs and outputs for backward.
        """
        learning = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())
        return learning and self.enabled and self.strength == 1 and self.scale_in is None


class LowRankLinear(nn.Linear):
    """A linear layer whose weight a `LowRankUpdate` reparametrises.

    Without gradients it multiplies by the updated weight. While the update is being learnt, `x Wᵀ + scale · (x Aᵀ) Bᵀ`
    gives the same outputs and gradients, and backward computes none for W.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        held: Any = self.parametrizations["weight"]  # type: ignore[index]
        update: LowRankUpdate = held[0]
        if not update.on_tokens:
            return super().forward(tokens)
        dtype, device = tokens.dtype, tokens.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):  # not on the meta device
            dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(dtype)
        factors = [factor.to(dtype) for pair in zip(update.down, update.up, strict=True) for factor in pair]
        outputs: Tensor = _OnTokens.apply(
            tokens.flatten(0, -2).to(dtype), held.original.to(dtype), bias, update.rows, update.scale, *factors
        )
        return outputs.unflatten(0, tokens.shape[:-1])


class _OnTokens(Function):
    """`x Wᵀ + b + scale · (x Aᵀ) Bᵀ` with W and b frozen; each part's product is added to its rows, in place."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None, rows: list[slice], scale: float, *factors: Tensor
    ) -> Tensor:
        outputs = nn.functional.linear(tokens, weight, bias)
        codes = [tokens @ down.T for down in factors[::2]]
        for part, code, up in zip(rows, codes, factors[1::2], strict=True):
            outputs[:, part].addmm_(code, up.T, alpha=scale)
        ctx.rows, ctx.scale = rows, scale
        ctx.save_for_backward(tokens, weight, *codes, *factors)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, *rest = ctx.saved_tensors
        parts, (gradient,) = len(ctx.rows), gradients
        codes, factors = rest[:parts], rest[parts:]
        to_tokens = gradient @ weight if ctx.needs_input_grad[0] else None
        to_factors = []
        for part, code, down, up in zip(ctx.rows, codes, factors[::2], factors[1::2], strict=True):
            to_outputs = gradient[:, part]
            to_code = (to_outputs @ up).mul_(ctx.scale)
            to_factors += [to_code.T @ tokens, (to_outputs.T @ code).mul_(ctx.scale)]
            if to_tokens is not None:
                to_tokens.addmm_(to_code, down)
        return to_tokens, None, None, None, None, *to_factors
