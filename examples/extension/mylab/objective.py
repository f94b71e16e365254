"""Pulls class tokens of one view of an image towards the teacher's of the other view."""

from __future__ import annotations

from torch.nn import functional as F

from datamodules.views import Batch
from src.core.keyed_random import KeyedRandom
from src.pretraining.consistency import LossOutput, Objective
from src.pretraining.network import NetworkOutput


class CosineConsistency(Objective):
    """`1 − cos(student's view, teacher's other view)`, without prototypes."""

    needs_head = False

    def forward(
        self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch, random: KeyedRandom, describe: bool = True
    ) -> LossOutput:
        other = teacher.features.cls.flip(0).detach()  # [V, B, D]
        return LossOutput(1 - F.cosine_similarity(student.features.cls, other, dim=-1).mean())
