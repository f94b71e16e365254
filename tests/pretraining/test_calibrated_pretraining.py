"""A fit with a calibrated head: calibrated once, shared by student and teacher, kept in the checkpoint."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

from datamodules.scenes import ScenesDataModule
from src.backbones.adapters import LoRA
from src.pretraining import ContinualPretraining
from src.pretraining import module as pretraining
from src.pretraining.calibrated_head import CalibratedHead
from src.pretraining.consistency import GlobalConsistency, LocalConsistency, RegionalConsistency
from src.pretraining.optimisation import Optimisation
from src.pretraining.targets import Uncentred
from tests.tiny import random_crops, tiny_backbone

LINEAR = ("q", "k", "v", "proj", "fc1", "fc2")
FAST = Optimisation(
    lr=1e-2, lr_batch=None, warmup=0.0, head_warmup=0.0, freeze_last_layer=0, teacher_temperature=(0.05, 0.05)
)
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip


def model(monkeypatch, objectives=None, **head) -> ContinualPretraining:
    seed_everything(0)
    return ContinualPretraining(
        tiny_backbone(monkeypatch),
        LoRA(rank=2, targets=LINEAR),
        functools.partial(CalibratedHead, **{"prototypes": 16, "hidden": 24, **head}),
        objectives or {"local": LocalConsistency(targets=Uncentred())},
        optimisation=FAST,
    )


def scenes(**options) -> ScenesDataModule:
    return ScenesDataModule(task="pretrain", batch_size=4, size=32, side=64, train_images=12, num_workers=0, **options)


def shared(module: ContinualPretraining) -> dict[str, torch.Tensor]:
    state = module.student.head.state_dict()
    return {name: value.clone() for name, value in state.items() if "mlp" not in name}


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    calls: list[int] = []
    original = pretraining.calibration
    monkeypatch.setattr(pretraining, "calibration", lambda *inputs: calls.append(1) or original(*inputs))
    return calls


def test_student_and_teacher_share_fixed_statistics_and_prototypes_and_only_the_rest_moves(monkeypatch, tmp_path):
    module = model(monkeypatch)
    Trainer(max_steps=1, default_root_dir=tmp_path, **QUIET).fit(module, datamodule=scenes())
    first = shared(module)
    Trainer(max_steps=4, default_root_dir=tmp_path, **QUIET).fit(module, datamodule=scenes())
    assert first.keys() == {"whitening.mean", "whitening.projection", "prototypes.weight"}
    for name, value in shared(module).items():
        assert value.isfinite().all() and torch.equal(value, first[name]), name
        assert torch.equal(value, module.teacher.network.head.state_dict()[name]), name
    student, teacher = module.student.head.mlp[2].weight, module.teacher.network.head.mlp[2].weight
    assert student.abs().max() > 0 and teacher.abs().max() > 0 and not torch.equal(student, teacher)


def test_it_is_calibrated_once_and_a_resumed_run_takes_it_from_the_checkpoint(monkeypatch, tmp_path, counted):
    module = model(monkeypatch)
    trainer = Trainer(max_steps=2, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, datamodule=scenes())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    resumed = model(monkeypatch)
    assert not resumed.student.head.calibrated
    trainer = Trainer(max_steps=4, default_root_dir=tmp_path, **QUIET)
    trainer.fit(resumed, datamodule=scenes(seed=7), ckpt_path=str(tmp_path / "two.ckpt"), weights_only=False)
    assert len(counted) == 1
    for name, value in shared(module).items():
        assert torch.equal(value, shared(resumed)[name]), name
        assert torch.equal(value, resumed.teacher.network.head.state_dict()[name]), name


def test_the_calibration_draws_no_number_that_the_fit_would_have_had(monkeypatch, tmp_path):
    numbers = []
    for prepared in (False, True):
        module = model(monkeypatch)
        if prepared:
            other = model(monkeypatch)
            Trainer(max_steps=1, default_root_dir=tmp_path, **QUIET).fit(other, datamodule=scenes())
            for network in (module.student, module.teacher.network):
                network.head.calibrate(*(shared(other)[name] for name in shared(other)))
        seed_everything(0)
        Trainer(max_steps=2, default_root_dir=tmp_path, **QUIET).fit(module, datamodule=scenes())
        numbers.append((torch.rand(3).tolist(), module.trainer.callback_metrics["train/loss"].item()))
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_of_crops_without_a_data_module_is_enough_and_the_fit_still_sees_all_of_it(
    num_workers, monkeypatch, tmp_path
):
    seen = []
    module = model(monkeypatch)
    monkeypatch.setattr(module, "on_train_batch_end", lambda outputs, crops, index: seen.extend(crops.indices.tolist()))
    loader = DataLoader(
        [random_crops(4, seed=i, first=4 * i) for i in range(3)],
        batch_size=None, num_workers=num_workers, persistent_workers=num_workers > 0,
    )  # fmt: skip
    Trainer(max_epochs=2, default_root_dir=tmp_path, **QUIET).fit(module, loader)
    assert module.student.head.calibrated and seen == 2 * list(range(12))


def test_all_levels_run_on_it_and_move_their_modules(monkeypatch, tmp_path):
    levels = {
        "local": LocalConsistency(targets=Uncentred()),
        "regional": RegionalConsistency(targets=Uncentred()),
        "global": GlobalConsistency(targets=Uncentred()),
    }
    module = model(monkeypatch, levels)
    before = {name: p.detach().clone() for name, p in module.student.named_parameters() if p.requires_grad}
    Trainer(max_steps=3, default_root_dir=tmp_path, **QUIET).fit(module, datamodule=scenes())
    metrics = module.trainer.callback_metrics
    assert all(metrics[f"train/loss/{name}"].isfinite() for name in levels)
    for name, parameter in module.student.named_parameters():
        assert not parameter.requires_grad or not torch.equal(parameter, before[name]), name


def test_the_loss_falls(monkeypatch, tmp_path):
    losses = []

    class Recorded(ContinualPretraining):
        def training_step(self, *inputs):
            losses.append(super().training_step(*inputs))
            return losses[-1]

    module = model(monkeypatch)
    module.__class__ = Recorded
    Trainer(max_steps=30, default_root_dir=tmp_path, **QUIET).fit(module, datamodule=scenes())
    values = [loss.item() for loss in losses]
    assert sum(values[-6:]) < 0.95 * sum(values[:6])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["calibrated", "distillation"])
def test_two_ranks_are_calibrated_and_trained_like_one(kind, tmp_path):
    results = []
    for devices in (1, 2):
        file = tmp_path / f"{devices}.pt"
        command = [sys.executable, "-m", "tests.ranks", str(file), str(devices), kind]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(torch.load(file))
    one, two = results
    assert one.keys() == two.keys() and any(name.endswith("head.whitening.mean") for name in one)
    for name in one:
        fixed = ".whitening." in name or "head.prototypes" in name
        assert not fixed or torch.equal(one[name], two[name]), name
        assert torch.allclose(one[name], two[name], rtol=0, atol=1e-10), (name, (one[name] - two[name]).abs().max())
