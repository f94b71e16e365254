"""Checkpoint callback: one resumable checkpoint per run, also after Ctrl-C."""

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from src.callbacks.model_card import ModelCard, card_of
from src.core.atomic_files import replacing, write_text
from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import Diverged, MissingFile, UserError
from src.core.interruption import NOTICES


@runtime_checkable
class SavesAdapter(Protocol):
    """Module that can save its trained adapter."""

    def save_adapter(self, path: Path) -> None:
        """Write the adapter to `path`."""


class RunCheckpoint(Checkpoint):
    """Keeps ``<run folder>/checkpoints/last.ckpt``, and ``adapter.safetensors``, up to date.

    A model card, ``README.md``, describes the adapter (`src.callbacks.model_card`).

    Written every `every_n_steps` steps, at the end of each epoch and of the fit, and when the fit is interrupted or
    fails; the previous one is kept as ``last.previous.ckpt`` (`src.core.checkpoint_files`). The first Ctrl-C ends the
    fit after the current step (of all its accumulated batches, whose gradients no checkpoint holds), a second one at
    once; both leave a checkpoint. SIGTERM and SIGUSR1, by which schedulers announce the end of a job, act as the first
    Ctrl-C, however often they come, unless they are ignored.

    Args:
        every_n_steps: optimiser steps between two checkpoints (our choice).
        min_seconds: checkpoints of steps and epochs are skipped if the last one is younger than this (our choice): with
            a few images an epoch takes a second, less than writing a checkpoint.

    Raises:
        UserError: if `every_n_steps` is not positive.
    """

    def __init__(self, every_n_steps: int = 100, min_seconds: float = 30.0) -> None:
        if every_n_steps < 1:
            raise UserError(f"checkpoint.every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.min_seconds = min_seconds
        self.interrupted = False
        self._begun_step = -1  # optimiser steps done when the batch began
        self._stepped = True  # the last batch ended a step; False: its gradients wait for the other accumulated batches
        self._saved_step = -1
        self._saved_time = 0.0
        self._previous: dict[int, Any] = {}  # handlers, by signal
        self._pressed = False
        self._folder: tuple[int, int] | None = None  # device and inode of the run folder, if it existed at the start
        self._held: int | None = None  # the run folder, kept open so that no other folder gets its inode
        self._card = ModelCard()

    @staticmethod
    def file(run_folder: str | Path) -> Path:
        """Path of a run's checkpoint."""
        return Path(run_folder) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interrupted = self._pressed = False
        self._stepped = True
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self._card = ModelCard(first_step=trainer.global_step)
        self._folder = _identity(Path(trainer.default_root_dir))
        if self._folder is not None and self._held is None:
            self._held = os.open(trainer.default_root_dir, os.O_RDONLY)
        if threading.current_thread() is threading.main_thread():  # the only thread that can handle signals
            for number in (signal.SIGINT, *NOTICES):
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, partial(self._on_signal, trainer))

    def _on_signal(self, trainer: Trainer, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and self._pressed
        self._pressed = self._pressed or number == signal.SIGINT
        if again or not trainer.training:
            raise KeyboardInterrupt
        if not self.interrupted and trainer.is_global_zero:
            why = "press Ctrl-C again to stop at once" if self._pressed else f"got {signal.Signals(number).name}"
            print(f"\nstopping after this step; {why}", file=sys.stderr, flush=True)
        self.interrupted = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._stop_if_asked()
        self._begun_step = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        # one hook after the step's checkpoint, when its metrics have been logged too
        if self.interrupted and self._stepped:
            raise KeyboardInterrupt

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.world_size > 1:  # all ranks stop at the same step, or the others would wait forever
            self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        self._stepped = trainer.global_step > self._begun_step
        if not self._stepped:
            return
        if self.interrupted or (trainer.global_step % self.every_n_steps == 0 and self._due(trainer)):
            # Lightning logs a step after this hook; a run killed in between would resume without its metrics
            trainer._logger_connector.update_train_step_metrics()
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due(trainer):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.state.fn != "fit" or trainer.global_step == 0:
            return
        # a single failed rank cannot save, since saving waits for all of them
        lost = isinstance(exception, Diverged) or self._deleted(trainer)
        if trainer.world_size == 1 and not trainer.sanity_checking and not lost:
            self.save(trainer)
        self._release()
        folder = Path(trainer.default_root_dir)
        if trainer.is_global_zero and checkpoint_exists(self.file(folder)):
            resume = f"python -m src fit --config {folder / 'config.yaml'} --ckpt_path {self.file(folder)}"
            print(
                f"stopped at step {trainer.global_step}; to resume from step {self._saved_step}:\n  {resume}",
                file=sys.stderr,
            )

    def _deleted(self, trainer: Trainer) -> bool:
        """Return True if the run folder has been deleted or replaced since the start."""
        return self._folder is not None and _identity(Path(trainer.default_root_dir)) != self._folder

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _due(self, trainer: Trainer) -> bool:
        """Return True if the last checkpoint is old enough, alike on all ranks, whose clocks differ."""
        due = time.monotonic() - self._saved_time >= self.min_seconds
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def save(self, trainer: Trainer) -> None:
        """Write the files, unless those of this step exist; each replaces the old one atomically.

        Raises:
            MissingFile: if the run folder was deleted.
        """
        if trainer.global_step == self._saved_step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self._deleted(trainer):
            raise MissingFile(
                f"{trainer.default_root_dir}: the run folder was deleted during the run, with what was written "
                "before; start the run again"
            )
        trainer.save_checkpoint(self.file(trainer.default_root_dir), weights_only=False)  # with the optimiser
        if trainer.is_global_zero and isinstance(trainer.lightning_module, SavesAdapter):
            with replacing(Path(trainer.default_root_dir) / "adapter.safetensors") as partial:
                trainer.lightning_module.save_adapter(partial)
            if (text := card_of(trainer.lightning_module, trainer, self._card)) is not None:
                write_text(Path(trainer.default_root_dir) / "README.md", text)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, or None if it does not exist."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
