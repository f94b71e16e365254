"""Optional anchors to the frozen features against drift on small data (our choice; off by default).

Shapes: V views · B images · N patches · D width.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional as F

from datamodules.views import Batch
from src.core.keyed_random import KeyedRandom
from src.pretraining.consistency import LossOutput, Objective
from src.pretraining.network import NetworkOutput


class _Anchor(Objective):
    """Compares the student's features with the frozen backbone's on the clean views."""

    needs_head = False
    needs_teacher = False

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        assert teacher.frozen is not None
        return LossOutput(self.distance(student.features.patches.float(), teacher.frozen.patches.float()))

    @abstractmethod
    def distance(self, patches: Tensor, frozen: Tensor) -> Tensor:
        """Scalar from student and frozen patches `[V, B, N, D]`; 0 if both are equal."""


class CosineAnchor(_Anchor):
    """`1 − cos(z, z_frozen)`, mean over patches."""

    def distance(self, patches: Tensor, frozen: Tensor) -> Tensor:
        return (1 - F.cosine_similarity(patches, frozen, dim=-1)).mean()


class GramAnchor(_Anchor):
    """Mean squared difference of the patches' cosine similarities within a view (Gram anchoring, DINOv3).

    Features may rotate as a whole, but relations between patches are kept.
    """

    def distance(self, patches: Tensor, frozen: Tensor) -> Tensor:
        ours, theirs = (F.normalize(tokens, dim=-1) for tokens in (patches, frozen))
        return (ours @ ours.transpose(-1, -2) - theirs @ theirs.transpose(-1, -2)).square().mean()
