"""Stop a fit whose loss has become NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.core.errors import Diverged
from src.monitoring.monitor import pretrains

_SCORES = ("evaluation.json", "confusion.npz")
_STATISTICS = ("running_mean", "running_var")


class DivergenceGuard(Callback):
    """Stops a fit whose loss, weights or statistics are no longer finite: exit code 1, neither score nor checkpoint.

    The loss is checked every `log_every_n_steps` steps, the weights before each evaluation, at the end of each epoch
    and of the fit. Scores of earlier epochs of the same fit are removed; metrics.csv keeps their curve. Continual
    pre-training is left to `src.monitoring.guards`, which restores the last good adapter.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None  # stays on the device until it is checked

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss of every n-th step."""
        self._loss = outputs["loss"].detach() if isinstance(outputs, dict) and "loss" in outputs else None
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer, pl_module, weights=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the loss and the weights before they are scored."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(trainer, pl_module, weights=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the loss and the weights before they are saved."""
        self._check(trainer, pl_module, weights=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the loss and the weights before they are saved."""
        self._check(trainer, pl_module, weights=True)

    def _check(self, trainer: Trainer, module: LightningModule, weights: bool) -> None:
        if self._loss is None or pretrains(module):
            return
        loss = float(trainer.strategy.reduce(self._loss, reduce_op="mean"))  # the same on all ranks
        broken = [name for name, value in _learnt(module) if _bad(value)] if weights else []
        # a loss scaler skips overflowing steps, so only the weights show whether the fit is lost
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if broken or (not math.isfinite(loss) and not scaled):
            found = f"{broken[0]} holds NaN or infinite values" if broken else f"the loss is {loss}"
            if trainer.is_global_zero:  # of an earlier epoch: believable, and of a head that nobody should use
                for name in _SCORES:
                    (Path(trainer.default_root_dir) / name).unlink(missing_ok=True)
            raise Diverged(
                f"stopped at step {trainer.global_step}, divergence: {found}; nothing is scored or saved. Lower "
                "model.init_args.lr, or set trainer.precision to bf16-mixed or 32-true"
            )


def _learnt(module: LightningModule) -> Iterator[tuple[str, Tensor]]:
    """Parameters that train, and the running statistics of batch normalisation."""
    yield from ((name, value) for name, value in module.named_parameters() if value.requires_grad)
    yield from ((name, value) for name, value in module.named_buffers() if name.endswith(_STATISTICS))


def _bad(value: Tensor) -> bool:
    return not bool(torch.isfinite(value).all())
