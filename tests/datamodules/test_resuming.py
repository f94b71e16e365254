"""Resumed runs see exactly the samples that an uninterrupted one sees, whatever the processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from datamodules.views import Crops
from tests.datamodules.test_base import NoiseData


class Recorder(LightningModule):
    """Trains nothing; remembers which samples it was given, and a checksum of their pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[tuple[int, int, int], ...]] = []

    def training_step(self, batch: Crops, batch_idx: int) -> Tensor:
        sums = batch.global_views.images.long().sum((0, 2, 3, 4))
        self.seen.append(tuple(zip(batch.epoch.tolist(), batch.indices.tolist(), sums.tolist(), strict=True)))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, steps: int, resume: Path | None = None, num_workers: int = 0, batch: int = 4, **trainer: Any
) -> Recorder:
    module = Recorder()
    data = NoiseData(batch_size=batch, size=8, num_workers=num_workers, seed=1)
    saver = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, callbacks=[saver], enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **trainer,
    ).fit(module, data, ckpt_path=resume, weights_only=False)  # fmt: skip
    return module


# 5 batches an epoch: interrupted in the middle, at an end, in a later epoch
@pytest.mark.parametrize(("step", "num_workers"), [(3, 0), (5, 0), (5, 2), (7, 0), (7, 2), (10, 0), (11, 0)])
def test_an_interrupted_run_goes_on_with_exactly_the_samples_that_remain(
    tmp_path: Path, step: int, num_workers: int
) -> None:
    whole = fit(tmp_path / "a", 14).seen
    assert {key[0] for batch in whole for key in batch} == {0, 1, 2}
    rest = fit(tmp_path / "b", 14, tmp_path / "a" / f"step={step}.ckpt", num_workers).seen
    assert rest == whole[step:]


def test_a_run_that_ended_by_its_steps_can_be_made_longer(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", 14).seen
    module = Recorder()
    trainer = Trainer(
        max_steps=7, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, NoiseData(batch_size=4, size=8, num_workers=0, seed=1))
    trainer.save_checkpoint(
        tmp_path / "end.ckpt"
    )  # the trainer has closed the epoch by now, though it was not finished
    assert module.seen == whole[:7]
    assert fit(tmp_path / "b", 14, tmp_path / "end.ckpt").seen == whole[7:]


def test_a_limited_epoch_is_resumed_too(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", 9, limit_train_batches=3).seen
    assert [batch[0][0] for batch in whole] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    rest = fit(tmp_path / "b", 9, tmp_path / "a" / "step=4.ckpt", limit_train_batches=3).seen
    assert rest == whole[4:]


def test_another_batch_size_goes_on_after_the_same_samples(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", 8).seen
    rest = fit(tmp_path / "b", 5, tmp_path / "a" / "step=3.ckpt", batch=2).seen
    assert [key for batch in rest for key in batch] == list(whole[3])


def test_views_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    assert fit(tmp_path / "a", 12, num_workers=2).seen == fit(tmp_path / "b", 12, num_workers=0).seen
