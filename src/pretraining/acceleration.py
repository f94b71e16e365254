"""Options for a faster or smaller fit with the same result up to rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from src.backbones.backbone import Backbone


@dataclass(frozen=True)
class Acceleration:
    """Speed and memory options of a fit.

    Attributes:
        matmul_precision: Precision of float32 matrix products on CUDA. `high` computes them in TF32, whose 10 bits of
            mantissa exceed those that bf16-mixed leaves in the loss's codes; `highest` keeps all 23.
        fused_optimizer: One kernel for AdamW on CUDA. Not with 16-mixed, where it unscales gradients itself, so that
            Lightning refuses to clip them.
        compile: `torch.compile` each block of student and teacher, in place, without changing names in checkpoints. Off
            by default, since compilation takes minutes, too long for short runs.
        checkpoint_blocks: Keep only the input of each of the student's blocks and recompute the block in backward: a
            third more time for the memory of one block instead of all.
    """

    matmul_precision: Literal["high", "highest"] = "high"
    fused_optimizer: bool = True
    compile: bool = False
    checkpoint_blocks: bool = False

    def prepare(self, student: Backbone, teacher: Backbone, device: torch.device) -> None:
        """Apply these options to the networks; called when a fit starts, idempotent."""
        # with `deterministic`, torch fills new tensors, which is not needed here
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if device.type == "cuda":
            torch.set_float32_matmul_precision(self.matmul_precision)
        student.checkpoint_blocks = self.checkpoint_blocks
        if self.compile:
            for backbone in (student, teacher):
                for block in backbone.trunk.blocks:
                    block.compile()

    def fuses(self, device: torch.device, precision: str | None) -> bool:
        """Return whether the optimiser's step is one fused kernel."""
        return self.fused_optimizer and device.type == "cuda" and precision != "16-mixed"
