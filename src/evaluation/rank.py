"""Effective rank of features."""

from __future__ import annotations

import torch
from torch import Tensor

from src.core.errors import UserError
from src.core.float64 import where_float64_is


def effective_rank(features: Tensor, epsilon: float = 1e-7) -> float:
    """RankMe (Garrido et al. 2023, arXiv 2210.02885, Eq. 1): exp of the entropy of the normalised singular values.

    Not centred, as in the paper: a collapse to one non-zero vector gives 1, D orthogonal directions of equal size D.

    Args:
        features: `[samples, D]`; computed in float64.
        epsilon: Added to each normalised singular value, as in the paper.

    Raises:
        UserError: If there are no features, or some are not finite.
    """
    if features.ndim != 2 or not features.numel():
        raise UserError(f"effective_rank: expected features [samples, D], found shape {list(features.shape)}")
    if not bool(features.isfinite().all()):
        raise UserError("effective_rank: the features hold NaN or infinite values")
    values = torch.linalg.svdvals(where_float64_is(features).double())
    share = values / values.sum().clamp(min=torch.finfo(torch.float64).tiny) + epsilon
    return float(torch.exp(-(share * share.log()).sum()))
