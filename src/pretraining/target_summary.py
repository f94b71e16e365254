"""Summary statistics of targets: sharpness and prototypes in use.

Shapes: `[..., K]`, K prototypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def entropy(targets: Tensor) -> Tensor:
    """Mean entropy of distributions `[..., K]`, in nats, without gradient."""
    return torch.special.entr(targets.detach()).sum(dim=-1).mean()


def prototypes_used(targets: Tensor) -> Tensor:
    """Exp of the entropy of the mean of distributions `[..., K]`: 1 if all choose one prototype, K if all are alike."""
    mean = targets.detach().flatten(0, -2).mean(dim=0)
    return torch.special.entr(mean).sum().exp()


class TargetSummary:
    """Both statistics for targets in blocks of rows."""

    def __init__(self) -> None:
        self._rows = 0
        self._entropy: Tensor | float = 0.0
        self._total: Tensor | float = 0.0

    def watch(self, blocks: Iterable[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
        """Pass the blocks on and update the statistics."""
        for rows, targets in blocks:
            self._rows += len(targets)
            self._entropy = self._entropy + entropy(targets) * len(targets)
            self._total = self._total + targets.sum(dim=0)
            yield rows, targets

    def entropy(self) -> Tensor:
        """`entropy` of all rows."""
        return torch.as_tensor(self._entropy / self._rows)

    def prototypes_used(self) -> Tensor:
        """`prototypes_used` of all rows."""
        return prototypes_used(torch.as_tensor(self._total / self._rows)[None])
