"""GLARE's three levels of consistency between student and teacher (docs/method.md, sections 4 to 7).

Pure functions: from two networks' outputs and a batch to a scalar. Shapes: V views · B images · N patches · R regions ·
K prototypes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from datamodules.views import Batch
from src.core.distributed import mean_weights
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.pretraining.correspondence import locate, patch_centres, scatter_bilinear
from src.pretraining.cross_entropy import weighted_cross_entropy
from src.pretraining.network import NetworkOutput
from src.pretraining.patch_subset import met_rows, put, take
from src.pretraining.regions import AttentionAware, RegionSampler, region_means
from src.pretraining.target_summary import TargetSummary
from src.pretraining.targets import Centring, Targets, TokenMean


class LossOutput(NamedTuple):
    """Loss and target statistics of an objective on a batch.

    Attributes:
        loss: Scalar to minimise.
        target_entropy: Mean entropy of the targets in nats, without gradient; between 0 (one prototype) and log K
            (uniform, without information). None for objectives without targets, or if not requested.
        prototypes_used: Effective number of prototypes that the targets use, without gradient; see
            `prototypes_used`. None as for the entropy.
    """

    loss: Tensor
    target_entropy: Tensor | None = None
    prototypes_used: Tensor | None = None


class Objective(nn.Module, ABC):
    """One term of the total loss.

    Args:
        weight: λ of this term; with 0 it is neither built nor computed.
    """

    needs_attention = False
    needs_context = False
    needs_head = True  # True if it scores tokens with the projection head, which does not learn if no objective does
    needs_indices = False  # True if it reads which training image a view is of
    needs_teacher = True  # True if it reads network tokens, which are not computed if no objective does
    needs_whitening = False
    needs_second_class_token = False

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def build(self, prototypes: int, width: int) -> None:
        """Build the parts that depend on the head's K and the tokens' D; called once, only if the weight is not 0."""

    def prepare(self, data: object) -> None:
        """Build the parts that depend on a fit's data module (None without one), before a checkpoint is loaded."""

    @abstractmethod
    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        """Compare student and teacher on a batch; `describe` adds statistics of the targets."""


class WithTargets(Objective):
    """Objectives whose teacher gives distributions over prototypes.

    Args:
        weight: λ of this term.
        targets: Conversion of the teacher's scores to distributions; every level has its own.
    """

    def __init__(self, weight: float = 1.0, targets: Targets | None = None) -> None:
        super().__init__(weight)
        self.targets = Centring() if targets is None else targets

    def build(self, prototypes: int, width: int) -> None:
        self.targets.build(prototypes)

    def compare(
        self,
        student: NetworkOutput,
        teacher: NetworkOutput,
        seen: Tensor,
        codes: Tensor,
        weights: Tensor,
        pulls: Tensor,
        describe: bool,
        met: Tensor | None = None,
        met_alone: bool = False,
    ) -> LossOutput:
        """The weighted sum of cross-entropies between targets and codes (`cross_entropy.py`).

        Args:
            student: Network whose prototypes and temperature score the codes.
            teacher: Network whose head gives a target for each token seen.
            seen: The teacher's tokens `[..., D]`.
            codes: The student's `[..., C]`.
            weights: Weights of each code, `[...]`.
            pulls: Sum of the codes compared with each target, times their coefficients: the leading axes of `seen`,
                `[..., C]`.
            describe: Also return entropy and usage of the targets.
            met: Rows of the flattened `seen` that are compared with any code, int64 `[m]`; the pulls of all others are
                zero. None for all. The others get no target unless described.
            met_alone: Hide the other rows from the targets, so that their shared state (a centre, a balance) only
                depends on the compared rows.
        """
        seen, pulls = seen.flatten(0, -2), pulls.flatten(0, -2)
        if met is not None and describe and not met_alone:
            met = None
        if met is not None:
            pulls = pulls[met]
            if met_alone or self.targets.independent:
                seen, met = seen[met], None
        with torch.no_grad():
            rows, prototypes = teacher.head.code(seen), teacher.head.weight
        blocks, summary = self.targets.blocks(rows, prototypes, teacher.temperature, met), TargetSummary()
        blocks = summary.watch(blocks) if describe else blocks
        loss = weighted_cross_entropy(codes, weights, pulls, student.head.weight, student.temperature, blocks)
        return LossOutput(loss, summary.entropy(), summary.prototypes_used()) if describe else LossOutput(loss)


class GlobalConsistency(WithTargets):
    """`L_glob`: class token of teacher view a against that of student view b ≠ a (paper; docs/method.md, section 5).

    Local views, if any, are compared with both global ones.

    Args:
        weight: λ of this term.
        targets: Conversion of the teacher's scores to distributions.
        centre_tokens: Subtract the teacher's mean class token (`TokenMean`) from both networks' before the head. Our
            choice, for small batches of one domain, whose class tokens are similar (docs/small-runs.md).
    """

    def __init__(self, weight: float = 1.0, targets: Targets | None = None, centre_tokens: bool = False) -> None:
        super().__init__(weight, targets)
        self.centre_tokens = centre_tokens

    def build(self, prototypes: int, width: int) -> None:
        super().build(prototypes, width)
        if self.centre_tokens:
            self.mean = TokenMean(width)

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        seen, tokens = teacher.features.cls, student.features.cls  # [V, B, D]
        if student.local_cls is not None:
            tokens = torch.cat((tokens, student.local_cls))  # [V + L, B, D]
        if self.centre_tokens:
            mean = self.mean(seen)
            seen, tokens = seen - mean, tokens - mean
        codes = student.head.code(tokens)  # [V + L, B, C]
        views, batch_size = seen.shape[:2]
        share = 1 / (views * (len(codes) - 1) * batch_size)  # weight of a pair a ≠ b of one image in the mean
        met = codes.new_full(codes.shape[:2], views * share)  # for a local view: the targets of all global ones,
        met[:views] -= share  # for a global view: all but its own
        pulls = (codes.sum(dim=0) - codes[:views]) * share  # [V, B, C]
        return self.compare(student, teacher, seen, codes, met, pulls, describe)


class RegionalConsistency(WithTargets):
    """`L_reg`: a teacher region in its own view against the same region in the context of the student's other view.

    Paper, Eqs. 5–7; docs/method.md, section 6: `mean_r H(h'(CA'(r', Z'_a)), h(CA(r', Z_b)))`, a ≠ b, r' without
    gradient. No coordinates are used: the attention itself finds the correspondence.

    Args:
        weight: λ of this term.
        targets: Conversion of the teacher's scores to distributions.
        regions: Sampler of regions.
    """

    needs_attention = True
    needs_context = True

    def __init__(
        self, weight: float = 1.0, targets: Targets | None = None, regions: RegionSampler | None = None
    ) -> None:
        super().__init__(weight, targets)
        self.regions = AttentionAware() if regions is None else regions

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        seen = teacher.features
        assert student.context is not None and teacher.context is not None and seen.attention is not None
        masks = self.regions(seen.attention, seen.grid, random)  # [V, B, R, N]
        regions = region_means(seen.patches, masks)  # [V, B, R, D]
        views = len(regions)
        meanings = [
            torch.stack([student.context(regions[a], student.features.patches[b]) for b in range(views) if a != b])
            for a in range(views)
        ]
        codes = student.head.code(torch.stack(meanings))  # [V, V − 1, B, R, C]: of view a's regions in each other view
        weights = codes.new_full(codes.shape[:-1], 1 / codes.shape[:-1].numel())
        pulls = codes.sum(dim=1) / weights.numel()  # [V, B, R, C]
        return self.compare(student, teacher, teacher.context(regions, seen.patches), codes, weights, pulls, describe)


class LocalConsistency(WithTargets):
    """`L_loc`: mean patch consistency within a view and between views (paper, Section 4.3; docs/method.md, section 7).

    Args:
        weight: λ of this term.
        targets: Conversion of the teacher's scores to distributions.
        same_view: Weight of `L_loc1`, the student's distorted patch against the teacher's clean one; 0.5 gives
            the mean.
        between_views: Weight of `L_loc2`: a student patch against the teacher's prediction at the same ground point of
            the other view, found from the geometry of the crops.
        distorted_only: Compute `L_loc1` over the distorted patches only.
        patches: Score a random subset of this many patches of each student view; None for all. Our choice, for speed.
            Below a fifth of two views' patches the teacher skips targets that no scored patch is compared with; the
            loss is the same, since their weight is zero.
        targets_from: With `patches`, the patches that determine the targets' shared state (a centre, Sinkhorn–Knopp's
            balance): `all` of the teacher, or only those `met` by a scored patch, which also saves the teacher's head
            and the balance, but changes the targets (except `Uncentred`, which shares no state).
    """

    def __init__(
        self,
        weight: float = 1.0,
        targets: Targets | None = None,
        same_view: float = 0.5,
        between_views: float = 0.5,
        distorted_only: bool = False,
        patches: int | None = None,
        targets_from: Literal["all", "met"] = "all",
    ) -> None:
        super().__init__(weight, targets)
        if min(same_view, between_views) < 0 or not 0 < same_view + between_views < math.inf:
            raise UserError(f"same_view {same_view}, between_views {between_views}: expected 0 or more, one above 0")
        if patches is not None and patches < 1:
            raise UserError(f"patches: expected at least 1, or null for all, found {patches}")
        if targets_from == "met" and patches is None:
            raise UserError("targets_from met: every patch is met without `patches`; give their number")
        self.targets_from = targets_from
        self.same_view = same_view
        self.between_views = between_views
        self.distorted_only = distorted_only
        self.patches = patches

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        seen, patches = teacher.features.patches, student.features.patches  # [V, B, N, D]
        chosen = self._subset(patches, random)  # [V, B, M], None for all
        codes = student.head.code(take(patches, chosen))  # [V, B, M, C]
        weights, pulls = codes.new_zeros(codes.shape[:-1]), codes.new_zeros(*seen.shape[:-1], codes.shape[-1])
        if self.same_view:
            mask = torch.ones_like(weights, dtype=torch.bool)
            if self.distorted_only:
                mask = take(batch.mask[..., None], chosen).squeeze(-1)
            same = self.same_view * mean_weights(mask, codes.dtype)
            weights = weights + same
            pulls = pulls + put(codes * same[..., None], chosen, seen.shape[-2])
        if self.between_views:
            pairs = [(a, b) for a in range(len(seen)) for b in range(len(codes)) if a != b]
            ground = take(patch_centres(batch.clean.boxes, batch.clean.flips, student.features.grid), chosen)
            grid = teacher.features.grid
            tracked = [locate(ground[b], batch.clean.boxes[a], batch.clean.flips[a], grid) for a, b in pairs]
            between = self.between_views * mean_weights(torch.stack([inside for _, inside in tracked]), codes.dtype)
            back: list[list[Tensor]] = [[] for _ in seen]
            given: list[list[Tensor]] = [[] for _ in codes]
            for (a, b), (positions, _), share in zip(pairs, tracked, between, strict=True):
                given[b].append(share)
                back[a].append(scatter_bilinear(codes[b] * share[..., None], positions, grid))
            weights = weights + torch.stack([torch.stack(parts).sum(dim=0) for parts in given])
            pulls = pulls + torch.stack([torch.stack(parts).sum(dim=0) for parts in back])
        met = None if self.patches is None else met_rows(pulls, self.patches * self._meetings(len(codes)))
        alone = self.targets_from == "met"
        return self.compare(student, teacher, seen, codes, weights, pulls, describe, met, alone)

    def _meetings(self, views: int) -> int:
        """Upper bound on the patches of a teacher view compared with one scored patch of each student view.

        That is one of its own view, and four around its ground point for each other view.
        """
        return bool(self.same_view) + 4 * (views - 1) * bool(self.between_views)

    def _subset(self, patches: Tensor, random: KeyedRandom) -> Tensor | None:
        """Indices of the scored student patches, `[V, B, M]`; None for all."""
        views, _, count = patches.shape[:3]
        if self.patches is None or self.patches >= count:
            return None
        order = random.uniform("local/subset", views, count).transpose(0, 1)  # [V, B, N]
        return order.argsort(dim=-1)[..., : self.patches]
