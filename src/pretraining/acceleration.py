"""Options that make a fit faster or smaller without changing its result beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from src.backbones.backbone import Backbone


@dataclass(frozen=True)
class Acceleration:
    """Options that make a fit fast on its device.

    Attributes:
        matmul_precision: Of float32 matrix products on CUDA. `high` computes them in TF32, whose 10 bits of mantissa
            are more than bf16-mixed leaves of the codes that the loss multiplies; `highest` keeps all 23.
        fused_optimizer: One kernel for AdamW on CUDA. Not under 16-mixed, where it unscales the gradients itself and
            Lightning therefore refuses to clip them.
        compile: `torch.compile` each block of student and teacher, in place: no name in a checkpoint changes. Off,
            since the first steps take minutes and short runs don't earn them back.
        checkpoint_blocks: Keep only the input of each of the student's blocks and compute the block once more in
            backward: a third more time for the memory of one block instead of all.
    """

    matmul_precision: Literal["high", "highest"] = "high"
    fused_optimizer: bool = True
    compile: bool = False
    checkpoint_blocks: bool = False

    def prepare(self, student: Backbone, teacher: Backbone, device: torch.device) -> None:
        """Apply what concerns the networks; called when a fit starts, and idempotent."""
        # under `deterministic`, torch fills what it allocates; nothing here reads memory before it is written
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if device.type == "cuda":
            torch.set_float32_matmul_precision(self.matmul_precision)
        student.checkpoint_blocks = self.checkpoint_blocks
        if self.compile:
            for backbone in (student, teacher):
                for block in backbone.trunk.blocks:
                    block.compile()

    def fuses(self, device: torch.device, precision: str | None) -> bool:
        """Return whether the optimiser's step is one kernel."""
        return self.fused_optimizer and device.type == "cuda" and precision != "16-mixed"
