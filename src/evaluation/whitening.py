"""Soft whitening of patch tokens by the statistics of a frozen model's own tokens.

Shapes: n patches · D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.core.distributed import sum_over_ranks
from src.core.errors import UserError
from src.core.float64 import where_float64_is


class Whitening(nn.Module):
    """Map tokens x to (x − mean) V diag(1 / (σ + ε σ₁)) Vᵀ, where V and σ² are the eigenpairs of their covariance.

    Directions much stronger than ε σ₁ get standard deviation 1, and weaker ones stay weak, so that noise is not
    amplified (docs/method.md, sections 11 and 12). Vᵀ rotates the result back, so that it depends continuously on the
    covariance, independent of the signs and order of a solver's eigenvectors.

    Built by `WhiteningStatistics.finish`. A fresh one holds NaN until `load_state_dict` fills it, so that missing
    statistics cannot be mistaken for an identity.

    Args:
        width: D.

    Attributes:
        mean: `[D]`.
        projection: V diag(1 / (σ + ε σ₁)) Vᵀ, `[D, D]`.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((width,), torch.nan))
        self.register_buffer("projection", torch.full((width, width), torch.nan))

    def forward(self, tokens: Tensor) -> Tensor:
        """Whitened tokens `[..., D]` of tokens `[..., D]`, in float32 at least."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):  # bfloat16's rounding would swamp weak directions
            return (tokens.to(dtype) - self.mean.to(dtype)) @ self.projection.to(dtype)

    def map(self, maps: Tensor) -> Tensor:
        """Whitened feature maps `[B, D, h, w]` of feature maps `[B, D, h, w]`."""
        return self(maps.movedim(1, -1)).movedim(-1, 1)


class WhiteningStatistics:
    """Sums over patch tokens, accumulated batch by batch in float64, with D² memory.

    Args:
        width: D.
        epsilon: ε, the share of the largest standard deviation that is added to all; 0.1 is our choice. None only
            subtracts the mean and scales all directions equally, to a mean variance of 1.

    Raises:
        UserError: If ε is not positive.
    """

    def __init__(self, width: int, epsilon: float | None = 0.1) -> None:
        if epsilon is not None and epsilon <= 0:
            raise UserError(f"whitening: expected an epsilon above 0, or null for no whitening, found {epsilon}")
        self.epsilon = epsilon
        self._sums = torch.zeros(width + 1, width + 1, dtype=torch.float64)  # of [x, 1]ᵀ [x, 1]

    def accumulate(self, tokens: Tensor) -> None:
        """Add patches `[..., D]`.

        Raises:
            UserError: If a token is NaN or infinite.
        """
        flat = where_float64_is(tokens.detach()).reshape(-1, tokens.shape[-1]).double()
        self._sums = self._sums.to(flat.device)
        with_one = torch.cat((flat, flat.new_ones(len(flat), 1)), dim=1)
        sums = with_one.T @ with_one
        if not bool(sums.isfinite().all()):
            raise UserError("whitening: expected finite patch tokens, found NaN or infinite values")
        self._sums += sums

    def finish(self) -> Whitening:
        """Whitening by the tokens of all ranks, float32; call it on all ranks.

        Raises:
            UserError: If there are fewer than two tokens, or all are the same.
        """
        sums = sum_over_ranks(self._sums)
        count = sums[-1, -1]
        if count < 2:
            raise UserError(f"whitening: expected at least 2 patch tokens, found {int(count)}")
        mean = sums[-1, :-1] / count
        covariance = sums[:-1, :-1] / count - torch.outer(mean, mean)
        variances, vectors = torch.linalg.eigh(covariance)  # ascending
        deviations = variances.clamp(min=0).sqrt()  # rounding may leave a tiny negative variance
        if not float(deviations[-1]) > 1e-7 * float(mean.abs().max()):
            raise UserError("whitening: all patch tokens are the same; expected features that vary")
        if self.epsilon is None:
            projection = torch.eye(len(mean), dtype=mean.dtype, device=mean.device) / deviations.square().mean().sqrt()
        else:
            projection = vectors / (deviations + self.epsilon * deviations[-1]) @ vectors.T
        whitening = Whitening(len(mean)).to(mean.device)
        whitening.mean.copy_(mean)
        whitening.projection.copy_(projection)
        return whitening
