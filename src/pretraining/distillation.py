"""Distil the frozen backbone's own test-time averaging (docs/method.md, section 13); ours, not the paper's.

Shapes: V views · B images · N patches · D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional as F

from datamodules.views import Batch
from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.evaluation.test_time_averaging import SCALES
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import LossOutput, Objective
from src.pretraining.cross_entropy import cross_entropy
from src.pretraining.network import NetworkOutput
from src.pretraining.target_summary import entropy, prototypes_used


class MultiScaleDistillation(Objective):
    """Pulls the student's tokens of a distorted view towards the frozen backbone's of the clean view at another scale.

    The frozen backbone sees the view at one scale, mirrored or not, and its tokens are resampled to the view's grid;
    steps cycle through these variants. Tokens are compared in the whitened space of a calibrated head, by cosine or by
    cross-entropy over its prototypes. Either loss is linear in the target, so that over the steps the student learns
    the mean in one pass: the result of averaging over scales and mirroring at inference. Targets are fixed, and cannot
    collapse.

    Args:
        weight: λ of this term.
        scales: Magnifications of the view, in turn.
        flip: Also use the mirrored view in turn.
        loss: `cosine`, `mean over patches of 1 − w(z)·w(z_frozen)`, where w is the soft whitening, normalised; or
            `prototypes`, `mean over patches of H(softmax(w(z_frozen)·C / τ_t), softmax(code(z)·C / τ_s))`, where C are
            the prototypes and code is the whitening with the head's MLP.

    Raises:
        UserError: If there is no scale, or one is not above 0.
    """

    needs_teacher = False
    needs_whitening = True

    def __init__(
        self,
        weight: float = 1.0,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
        loss: Literal["cosine", "prototypes"] = "cosine",
    ) -> None:
        super().__init__(weight)
        self.loss = loss
        if not scales or not all(scale > 0 for scale in scales):
            raise UserError(f"scales: expected at least one, all above 0, found {list(scales)}")
        self.augmentations = [
            (scale, mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,))
        ]

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        assert teacher.frozen is not None and isinstance(student.head, CalibratedHead)
        whitening, prototypes = student.head.whitening, student.head.weight
        frozen = teacher.frozen.augmented(*self.augmentations[batch.step % len(self.augmentations)])
        target, tokens = F.normalize(whitening(frozen), dim=-1), student.features.patches
        if self.loss == "cosine":
            return LossOutput((1 - (F.normalize(whitening(tokens), dim=-1) * target).sum(dim=-1)).mean())
        with torch.autocast(tokens.device.type, enabled=False):
            targets = (target @ prototypes.T / teacher.temperature).softmax(dim=-1)
        loss = cross_entropy(targets, student.head(tokens), student.temperature).mean()
        return LossOutput(loss, entropy(targets), prototypes_used(targets)) if describe else LossOutput(loss)
