"""Soft whitening of tokens by the statistics of a domain (method, sections 11 and 12).

Shapes: D width · n tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.core.errors import UserError


class Whitening(nn.Module):
    """`(z − μ) P`, in at least float32.

    Args:
        mean: μ, `[D]`.
        projection: P, `[D, D]`.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, mean: Tensor, projection: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)

    def forward(self, tokens: Tensor) -> Tensor:
        """Whitened tokens, `[..., D]` to `[..., D]`."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):
            return (tokens.to(dtype) - self.mean.to(dtype)) @ self.projection.to(dtype)


class Moments:
    """Mean and covariance of tokens that come in batches, summed in float64 where the device has it.

    Args:
        width: D.
        device: Of the tokens.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.count = 0
        self.total = torch.zeros(width, dtype=dtype, device=device)
        self.products = torch.zeros(width, width, dtype=dtype, device=device)

    def update(self, tokens: Tensor) -> None:
        """Add tokens `[..., D]`."""
        rows = tokens.reshape(-1, tokens.shape[-1]).to(self.total.dtype)
        self.count += len(rows)
        self.total += rows.sum(dim=0)
        self.products += rows.T @ rows

    @property
    def mean(self) -> Tensor:
        """`[D]`."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """`[D, D]`, divided by n."""
        return self.products / self.count - torch.outer(self.mean, self.mean)


def soft_whitening(mean: Tensor, covariance: Tensor, epsilon: float | None = 0.1) -> Whitening:
    """Whitening by `V diag(1 / (σ + ε σ₁)) Vᵀ`, with V the eigenvectors of the covariance and σ² its eigenvalues.

    Directions that hardly vary, which are mostly noise, are raised less than whitening proper would raise them. The
    result is turned back by Vᵀ, so that it depends on the covariance continuously, whatever signs and order a solver
    gives the eigenvectors; cosines are those without that turn.

    Args:
        mean: `[D]`.
        covariance: `[D, D]`.
        epsilon: ε; None only takes out the mean and scales all directions alike, to a mean variance of 1.

    Returns:
        On the CPU, in float32.

    Raises:
        UserError: If ε is not above 0, or the tokens do not vary.
    """
    if epsilon is not None and epsilon <= 0:
        raise UserError(f"whitening: expected an epsilon above 0, or null for no whitening, found {epsilon}")
    variances, vectors = torch.linalg.eigh(covariance.double().cpu())
    deviations = variances.clamp_min(0).sqrt()  # ascending: the last is σ₁
    if not deviations[-1] > 0:
        raise UserError("whitening: expected tokens that vary, found a covariance of zero or NaN")
    if epsilon is None:
        projection = torch.eye(len(deviations), dtype=deviations.dtype) / deviations.square().mean().sqrt()
    else:
        projection = vectors / (deviations + epsilon * deviations[-1]) @ vectors.T
    return Whitening(mean.float().cpu(), projection.float())
