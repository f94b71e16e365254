"""One progress bar for the whole fit, with the remaining time; for a file or pipe, one line per tenth."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from src.core.ticker import Ticker


class Progress(ProgressBar):
    """Shows the progress of a fit, validation, test or prediction, the remaining time and the loss."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._ticker: Ticker | None = None
        self._inner: Ticker | None = None

    def disable(self) -> None:
        """Disable output, on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """The opposite of `disable`."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        total = int(steps) if steps not in (-1, float("inf")) else None
        self._ticker = Ticker("fit", total, trainer.global_step) if self._enabled else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._ticker is not None:

            def note() -> str:
                loss = trainer.callback_metrics.get("train/loss")
                return f"epoch {trainer.current_epoch}" + (f", loss {loss.item():.4f}" if loss is not None else "")

            self._ticker.to(trainer.global_step, note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        for ticker in (self._inner, self._ticker):
            if ticker is not None:
                ticker.close()
        self._inner = self._ticker = None

    def _begin(self, trainer: Trainer, label: str, batches: int | float | list[int | float]) -> None:
        # a validation within a fit is shown only on a terminal; a log has lines of the fit alone
        if self._enabled and (self._ticker is None or sys.stderr.isatty()):
            sizes = batches if isinstance(batches, list) else [batches]
            self._inner = Ticker(label, int(sum(sizes)) if float("inf") not in sizes else None)

    def _advance(self, *_: Any, **__: Any) -> None:
        if self._inner is not None:
            self._inner.to(self._inner.done + 1)

    def _end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._inner is not None:
            self._inner.close()
        self._inner = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, "validate", trainer.num_val_batches)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, "test", trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, "predict", trainer.num_predict_batches)

    # the signatures of Lightning's hooks differ
    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _advance
    on_validation_end = on_test_end = on_predict_end = _end
