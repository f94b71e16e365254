"""GLARE's three levels of consistency between student and teacher (method, sections 4 to 7).

Pure: two branches and a batch in, a scalar out. Shapes: V views · B images · N patches · R regions · K prototypes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.views import Batch
from src.core.distributed import masked_mean
from src.core.keyed_random import KeyedRandom
from src.pretraining.correspondence import locate, patch_centres, sample_bilinear
from src.pretraining.network import NetworkOutput
from src.pretraining.regions import AttentionAware, RegionSampler, region_means
from src.pretraining.targets import Centring, Targets, TokenMean


class LossOutput(NamedTuple):
    """What an objective says of a batch.

    Attributes:
        loss: Scalar to minimise.
        target_entropy: Mean entropy of the targets in nats, without gradient; between 0 (one prototype) and log K
            (uniform: the targets say nothing). None for objectives without targets.
        prototypes_used: Effective number of prototypes that the targets share out, without gradient; see
            `prototypes_used`. None for objectives without targets.
    """

    loss: Tensor
    target_entropy: Tensor | None = None
    prototypes_used: Tensor | None = None


def cross_entropy(targets: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """`H(t, s) = −Σ p_t log softmax(scores / τ_s)`, `[..., K]` to `[...]` (method, section 4)."""
    return -(targets * F.log_softmax(scores / temperature, dim=-1)).sum(dim=-1)


def entropy(targets: Tensor) -> Tensor:
    """Mean entropy of distributions `[..., K]`, in nats, without gradient."""
    return torch.special.entr(targets.detach()).sum(dim=-1).mean()


def prototypes_used(targets: Tensor) -> Tensor:
    """Exp of the entropy of the mean of distributions `[..., K]`: 1 if all choose one prototype, K if all are alike."""
    mean = targets.detach().flatten(0, -2).mean(dim=0)
    return torch.special.entr(mean).sum().exp()


class Objective(nn.Module, ABC):
    """One term of the total loss.

    Args:
        weight: λ of this term; at 0 it is never computed and builds no module.
    """

    needs_attention = False
    needs_context = False
    needs_frozen = False
    needs_second_class_token = False

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def build(self, prototypes: int, width: int) -> None:
        """Make what depends on the head's K and the tokens' D; called once, and only where the weight is not 0."""

    @abstractmethod
    def forward(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom) -> LossOutput:
        """Compare the student's with the teacher's view of a batch."""


class WithTargets(Objective):
    """Objectives whose teacher makes distributions over prototypes.

    Args:
        weight: λ of this term.
        targets: How the teacher's scores become distributions; every level has its own.
    """

    def __init__(self, weight: float = 1.0, targets: Targets | None = None) -> None:
        super().__init__(weight)
        self.targets = Centring() if targets is None else targets

    def build(self, prototypes: int, width: int) -> None:
        self.targets.build(prototypes)


class GlobalConsistency(WithTargets):
    """`L_glob`: class token of teacher view a against that of student view b ≠ a (paper; method, section 5).

    Local views, where there are any, are students of both global ones.

    Args:
        weight: λ of this term.
        targets: How the teacher's scores become distributions.
        centre_tokens: Take the teacher's mean class token (`TokenMean`) out of both networks' before the head. Ours,
            for small batches of one domain, whose class tokens are alike (docs/small-runs.md).
    """

    def __init__(self, weight: float = 1.0, targets: Targets | None = None, centre_tokens: bool = False) -> None:
        super().__init__(weight, targets)
        self.centre_tokens = centre_tokens

    def build(self, prototypes: int, width: int) -> None:
        super().build(prototypes, width)
        if self.centre_tokens:
            self.mean = TokenMean(width)

    def forward(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom) -> LossOutput:
        seen, tokens = teacher.features.cls, student.features.cls  # [V, B, D]
        if student.local_cls is not None:
            tokens = torch.cat((tokens, student.local_cls))  # [V + L, B, D]
        if self.centre_tokens:
            mean = self.mean(seen)
            seen, tokens = seen - mean, tokens - mean
        targets = self.targets(teacher.head(seen), teacher.temperature)  # [V, B, K]
        scores = student.head(tokens)  # [V + L, B, K]
        losses = [
            cross_entropy(targets[a], scores[b], student.temperature).mean()
            for a in range(len(targets))
            for b in range(len(scores))
            if a != b
        ]
        return LossOutput(torch.stack(losses).mean(), entropy(targets), prototypes_used(targets))


class RegionalConsistency(WithTargets):
    """`L_reg`: a teacher region in its own view against the same region's meaning in the student's other view.

    Paper, Eqs. 5–7; method, section 6: `mean_r H(h'(CA'(r', Z'_a)), h(CA(r', Z_b)))`, a ≠ b, r' without gradient.
    No coordinates are used: the correspondence is found by the attention itself.

    Args:
        weight: λ of this term.
        targets: How the teacher's scores become distributions.
        regions: How regions are chosen.
    """

    needs_attention = True
    needs_context = True

    def __init__(
        self, weight: float = 1.0, targets: Targets | None = None, regions: RegionSampler | None = None
    ) -> None:
        super().__init__(weight, targets)
        self.regions = AttentionAware() if regions is None else regions

    def forward(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom) -> LossOutput:
        seen = teacher.features
        assert student.context is not None and teacher.context is not None and seen.attention is not None
        masks = self.regions(seen.attention, seen.grid, random)  # [V, B, R, N]
        regions = region_means(seen.patches, masks)  # [V, B, R, D]
        targets = self.targets(teacher.head(teacher.context(regions, seen.patches)), teacher.temperature)
        losses = []
        for a in range(len(regions)):
            for b in range(len(student.features.patches)):
                if a != b:
                    meaning = student.context(regions[a], student.features.patches[b])  # [B, R, D]
                    losses.append(cross_entropy(targets[a], student.head(meaning), student.temperature).mean())
        return LossOutput(torch.stack(losses).mean(), entropy(targets), prototypes_used(targets))


class LocalConsistency(WithTargets):
    """`L_loc`: mean of patch consistency within a view and between views (paper, Section 4.3; method, section 7).

    Args:
        weight: λ of this term.
        targets: How the teacher's scores become distributions.
        same_view: Weight of `L_loc1`, the student's distorted patch against the teacher's clean one; 0.5 gives
            the mean.
        between_views: Weight of `L_loc2`: a student patch against the teacher's prediction at the same ground point of
            the other view, found by back-tracking the crops.
        distorted_only: Take `L_loc1` over the distorted patches alone.
        patches: Score a random subset of this many patches of each student view; None for all. Our choice, for speed.
    """

    def __init__(
        self,
        weight: float = 1.0,
        targets: Targets | None = None,
        same_view: float = 0.5,
        between_views: float = 0.5,
        distorted_only: bool = False,
        patches: int | None = None,
    ) -> None:
        super().__init__(weight, targets)
        self.same_view = same_view
        self.between_views = between_views
        self.distorted_only = distorted_only
        self.patches = patches

    def forward(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom) -> LossOutput:
        clean, seen = batch.clean, student.features.patches  # [V, B, N, D]
        targets = self.targets(teacher.head(teacher.features.patches), teacher.temperature)  # [V, B, N, K]
        chosen = self._subset(seen, random)  # [V, B, M]
        scores = student.head(_take(seen, chosen))  # [V, B, M, K]
        loss = scores.new_zeros(())
        if self.same_view:
            values = cross_entropy(_take(targets, chosen), scores, student.temperature)
            mask = batch.mask.gather(-1, chosen) if self.distorted_only else torch.ones_like(chosen, dtype=torch.bool)
            loss = loss + self.same_view * masked_mean(values, mask)
        if self.between_views:
            losses, inside = [], []
            grid = teacher.features.grid
            ground = _take(patch_centres(clean.boxes, clean.flips, student.features.grid), chosen)  # [V, B, M, 2]
            for a in range(len(targets)):
                for b in range(len(scores)):
                    if a != b:
                        positions, within = locate(ground[b], clean.boxes[a], clean.flips[a], grid)
                        there = sample_bilinear(targets[a], positions, grid)  # [B, M, K]
                        losses.append(cross_entropy(there, scores[b], student.temperature))
                        inside.append(within)
            loss = loss + self.between_views * masked_mean(torch.stack(losses), torch.stack(inside))
        return LossOutput(loss, entropy(targets), prototypes_used(targets))

    def _subset(self, patches: Tensor, random: KeyedRandom) -> Tensor:
        """Indices of the student's patches that are scored, `[V, B, M]`."""
        views, batch, count = patches.shape[:3]
        if self.patches is None or self.patches >= count:
            return torch.arange(count, device=patches.device).expand(views, batch, -1)
        order = random.uniform("local/subset", views, count).transpose(0, 1)  # [V, B, N]
        return order.argsort(dim=-1)[..., : self.patches]


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Rows of `[..., N, C]` at `[..., M]`."""
    return values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))
