"""UDI's second class token (arXiv 2407.17671), for the baseline "UDI-style".

Shapes: V views · B images · N = h·w patches · S = s·s strata · K prototypes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.views import Batch
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.pretraining.consistency import LossOutput, WithTargets
from src.pretraining.cross_entropy import cross_entropy
from src.pretraining.network import NetworkOutput
from src.pretraining.target_summary import entropy, prototypes_used
from src.pretraining.targets import Targets


class SecondClassConsistency(WithTargets):
    """Compares the student's second class token with a profile of the teacher's patches and class token.

    A view is divided into s × s strata and one patch is drawn from each, as UDI samples them. The target of the second
    class token of view b ≠ a is `softmax(centre(½ · mean of the patches' scores + ½ · the class token's scores))` of
    the teacher's view a, as in UDI's public code: a profile over several parts of the view, unlike the first class
    token's target.

    Args:
        weight: λ of this term.
        targets: Conversion of the teacher's scores to distributions.
        strata: s, strata along a side, at most the patches of the grid. UDI samples 16 patches per view.
    """

    needs_second_class_token = True

    def __init__(self, weight: float = 1.0, targets: Targets | None = None, strata: int = 4) -> None:
        super().__init__(weight, targets)
        if strata < 1:
            raise UserError(f"strata: expected at least 1 along a side, got {strata}")
        self.strata = strata

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        seen = teacher.features
        chosen = stratified(self.strata, seen.grid, len(seen.patches), random)  # [V, B, S]
        patches = seen.patches.gather(2, chosen[..., None].expand(-1, -1, -1, seen.patches.shape[-1]))
        profile = 0.5 * teacher.head(patches).mean(dim=2) + 0.5 * teacher.head(seen.cls)  # [V, B, K]
        targets = self.targets(profile, teacher.temperature)
        scores = student.head(student.features.extra[..., 0, :])  # the second class token comes first: [V, B, K]
        losses = [
            cross_entropy(targets[a], scores[b], student.temperature).mean()
            for a in range(len(targets))
            for b in range(len(scores))
            if a != b
        ]
        loss = torch.stack(losses).mean()
        return LossOutput(loss, entropy(targets), prototypes_used(targets)) if describe else LossOutput(loss)


def stratified(strata: int, grid: tuple[int, int], views: int, random: KeyedRandom) -> Tensor:
    """Draw one patch uniformly from each of `strata` × `strata` cells of nearly equal size, int64 `[V, B, S]`.

    Raises:
        UserError: If there are more strata than patches along a side.
    """
    if strata > min(grid):
        raise UserError(f"strata: {strata} along a side of a grid of {grid[0]}×{grid[1]} patches; give fewer")
    parts = []
    for name, side in (("row", grid[0]), ("column", grid[1])):
        edges = torch.arange(strata + 1, device=random.indices.device) * side // strata
        sizes = edges.diff().view((-1, 1) if name == "row" else (1, -1))  # one axis of the s × s cells
        offsets = random.uniform(f"strata/{name}", views, strata, strata) * sizes
        parts.append(edges[:-1].view(sizes.shape) + offsets.long())  # [B, V, s, s]
    return (parts[0] * grid[1] + parts[1]).flatten(2).transpose(0, 1)
