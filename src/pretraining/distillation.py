"""Distil the frozen backbone's own test-time averaging (docs/method.md, section 13); ours, not the paper's.

Shapes: V views · B images · N patches · D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn import functional as F

from datamodules.views import Batch
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.evaluation.test_time_averaging import SCALES
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import LossOutput, Objective
from src.pretraining.network import NetworkOutput


class MultiScaleDistillation(Objective):
    """Pulls the student's tokens of a distorted view towards the frozen backbone's of the clean view at another scale.

    `mean over patches of 1 − cos(w(z), w(z_frozen))`, where w is the soft whitening of a calibrated head. The frozen
    backbone sees the view at one scale, mirrored or not, and its tokens are resampled to the view's grid; steps cycle
    through these variants. The loss is linear in the target, so that over the steps the student learns the mean in one
    pass: the result of averaging over scales and mirroring at inference. Targets are fixed, and cannot collapse.

    Args:
        weight: λ of this term.
        scales: Magnifications of the view, in turn.
        flip: Also use the mirrored view in turn.

    Raises:
        UserError: If there is no scale, or one is not above 0.
    """

    needs_teacher = False
    needs_whitening = True

    def __init__(self, weight: float = 1.0, scales: Sequence[float] = SCALES, flip: bool = True) -> None:
        super().__init__(weight)
        if not scales or not min(scales) > 0:
            raise UserError(f"scales: expected at least one, all above 0, found {list(scales)}")
        self.augmentations = [
            (scale, mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,))
        ]

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        assert teacher.frozen is not None and isinstance(student.head, CalibratedHead)
        whitening = student.head.whitening
        frozen = teacher.frozen.augmented(*self.augmentations[batch.step % len(self.augmentations)])
        ours, theirs = (F.normalize(whitening(tokens), dim=-1) for tokens in (student.features.patches, frozen))
        return LossOutput((1 - (ours * theirs).sum(dim=-1)).mean())
