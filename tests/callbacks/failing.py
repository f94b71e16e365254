"""Ways in which a rank may fail, for configurations of tests."""

from __future__ import annotations

import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class KillRank(Callback):
    """Ends one process as the kernel does when memory runs out.

    Args:
        rank: Which.
        step: After how many steps.
        signal_name: By which signal.
    """

    def __init__(self, rank: int, step: int = 2, signal_name: str = "SIGKILL") -> None:
        self.rank, self.step, self.signal_name = rank, step, signal_name

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == self.rank and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.Signals[self.signal_name])


class HangRank(KillRank):
    """Lets rank 0 wait for ever, as NCCL does, while another process is killed."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if trainer.global_rank == 0 and trainer.global_step == self.step:
            signal.pause()
