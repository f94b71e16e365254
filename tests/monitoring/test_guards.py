"""A run that breaks its backbone is stopped, and leaves an adapter that is good."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file

from datamodules.scenes import ScenesDataModule
from src.__main__ import main
from src.backbones.adapter_file import read_metadata
from src.backbones.adapters import UniAdapter
from src.backbones.backbone import Backbone
from src.cli import main as run
from src.monitoring.feature_metrics import MetricPair
from src.monitoring.guards import Guards
from src.monitoring.monitor import Monitor
from src.pretraining import ContinualPretraining
from src.pretraining.optimisation import Optimisation
from tests.command_line import losses, pretraining, written
from tests.tiny import TINY, tiny_head


def step_of(file: Path) -> int:
    return int(read_metadata(file)["step"])


def test_a_learning_rate_of_one_without_a_centre_is_stopped_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 15 % of the steps after the warm-up; the run then ends as if it were done, with the last good adapter."""
    config = pretraining(tmp_path / "run", max_steps=100)
    del config["guards"]
    config["monitor"] = {"max_share": 1.0}
    config["model"]["init_args"]["optimisation"] = {"lr": 1.0, "lr_batch": None}
    for level in config["model"]["init_args"]["objectives"].values():
        targets = {"class_path": "src.pretraining.targets.Centring", "init_args": {"momentum": 1.0}}
        level["init_args"]["targets"] = targets
    assert main(["fit", "--config", written(tmp_path / "x.yaml", config)]) == 0
    warmup, stopped = 10, len(losses(tmp_path / "run"))
    assert warmup <= stopped <= warmup + 15
    error = capsys.readouterr().err
    assert f"stopped at step {stopped} of 100" in error
    notes = json.loads((tmp_path / "run" / "guards.json").read_text())
    assert notes["stopped"] in error and notes["warnings"]
    good = step_of(tmp_path / "run" / "adapter.safetensors")
    assert good == notes["last_good"]["step"] < stopped


class Poison(Callback):
    """Makes one of the student's adapters NaN after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.student.backbone.trainable()[0][1].fill_(math.nan)


def test_nan_stops_at_once_even_in_the_warm_up_and_never_reaches_the_adapter(tmp_path: Path) -> None:
    config = pretraining(tmp_path / "run", max_steps=40, callbacks=[{"class_path": f"{__name__}.Poison", "init_args": {"step": 2}}])  # fmt: skip # noqa: E501
    config["guards"] = {"patience": 0}
    run(["fit", "--config", written(tmp_path / "x.yaml", config)])
    assert len(losses(tmp_path / "run")) == 3
    adapter = load_file(tmp_path / "run" / "adapter.safetensors")
    assert all(tensor.isfinite().all() for tensor in adapter.values())
    assert "divergence: the loss is nan" in json.loads((tmp_path / "run" / "guards.json").read_text())["stopped"]


class Scripted(Monitor):
    """Says what it is told to: one value of a monitor a step, beside 0.5 of the frozen backbone."""

    def __init__(self, values: list[float], name: str) -> None:
        super().__init__(every_n_steps=1)
        self.values = values
        self.name = name
        self.hastened: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.active = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.step = trainer.global_step
        self.signs = {self.name: MetricPair(self.values[self.step - 1], 0.5)}

    def on_train_end(self, *_: Any) -> None:
        pass

    def hasten(self, step: int) -> None:
        self.hastened.append(step)


def scripted(folder: Path, values: list[float], name: str = "knn", **guards: Any) -> tuple[Guards, Scripted, int]:
    """A run of as many steps as there are values, without warm-up; no loss is a spike."""
    guard, monitor = Guards(spike=math.inf, **guards), Scripted(values, name)
    rates = Optimisation(lr=1e-3, lr_batch=None, warmup=0.0)
    module = ContinualPretraining(Backbone(TINY, "none"), UniAdapter(rank=2), tiny_head(), optimisation=rates)
    trainer = Trainer(
        max_steps=len(values), callbacks=[monitor, guard], default_root_dir=folder, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, ScenesDataModule(train_images=8, side=64, batch_size=4, size=32, num_workers=0))
    return guard, monitor, trainer.global_step


def test_harm_stops_after_three_checks_in_a_row_and_the_best_adapter_is_beside_the_last_good(tmp_path: Path) -> None:
    values = [0.50, 0.60, 0.46, 0.46, 0.55, 0.46, 0.46, 0.46, 0.70, 0.70]
    guard, monitor, steps = scripted(tmp_path / "run", values)
    assert steps == 8 and monitor.hastened == [3, 4, 6, 7, 8]
    assert guard.stopped == "stopped at step 8 of 10, harm: knn is 0.460, more than 0.03 below the frozen backbone's 0.500"  # fmt: skip # noqa: E501
    assert [warning.partition(",")[0] for warning in guard.warnings] == ["step 3 of 10", "step 6 of 10"]
    assert step_of(tmp_path / "run" / "adapter.safetensors") == guard.good.step == 5
    assert step_of(tmp_path / "run" / "adapter-best.safetensors") == guard.best.step == 2


def test_agreement_selects_the_best_adapter_and_stops_a_run_only_where_it_is_asked_to(tmp_path: Path) -> None:
    values = [0.50, 0.60, 0.1, 0.1, 0.1, 0.1]
    guard, _, steps = scripted(tmp_path / "free", values, "agreement")
    assert steps == 6 and guard.stopped is None and not guard.warnings
    assert guard.best == (2, 0.6) and not (tmp_path / "free" / "guards.json").exists()
    guard, _, steps = scripted(tmp_path / "asked", values, "agreement", best_by="agreement")
    assert steps == 5 and guard.stopped is not None and "harm: agreement is 0.100" in guard.stopped


def test_a_run_that_goes_well_leaves_no_note_and_its_best_adapter(tmp_path: Path) -> None:
    guard, _, steps = scripted(tmp_path / "run", [0.50, 0.62, 0.60, 0.47])
    assert steps == 4 and guard.stopped is None
    assert guard.best == (2, 0.62) and step_of(tmp_path / "run" / "adapter-best.safetensors") == 2
    assert not (tmp_path / "run" / "guards.json").exists() and not list((tmp_path / "run").rglob("adapter-good*"))


@pytest.mark.parametrize("every", [1, 2, 3, 10])
def test_a_loss_that_differs_from_step_to_step_is_no_spike_however_often_it_is_logged(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, found, trainer = Guards(), [], SimpleNamespace(log_every_n_steps=every)
    monkeypatch.setattr(guard, "_judge", lambda _, findings: found.append(findings.get("spike")))
    steps = [0.2, 0.2, 0.4, 0.4, 0.25, 0.25] * 40 + [1.0] * 30  # the six variants of distillation, then a spike
    for start in range(0, len(steps) - every + 1, every):
        guard._judge_loss(trainer, sum(steps[start : start + every]) / every)  # type: ignore[arg-type]
    reported = [place * every for place, reason in enumerate(found) if reason is not None]
    assert reported and min(reported) >= 240 - every
    assert reported[-1] - reported[0] >= 10  # it lasts


@pytest.mark.parametrize("accumulated", [1, 2])
def test_windows_of_the_loss_are_optimiser_steps_however_many_batches_each_has(
    accumulated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[int, float]] = []
    losses: list[float] = []
    step = ContinualPretraining.training_step

    def recorded(self: ContinualPretraining, *arguments: Any) -> torch.Tensor:
        loss = step(self, *arguments)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(ContinualPretraining, "training_step", recorded)
    monkeypatch.setattr(Guards, "_judge_loss", lambda self, trainer, loss: judged.append((trainer.global_step, loss)))
    trainer = Trainer(
        max_steps=4, accumulate_grad_batches=accumulated, log_every_n_steps=2, callbacks=[Guards()],
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = ContinualPretraining(Backbone(TINY, "none"), UniAdapter(rank=2), tiny_head())
    trainer.fit(module, ScenesDataModule(train_images=16, side=64, batch_size=4, size=32, num_workers=0))
    half = 2 * accumulated
    expected = [(2, sum(losses[:half]) / half), (4, sum(losses[half:]) / half)]
    assert judged == [(done, pytest.approx(mean, rel=1e-5)) for done, mean in expected]


def test_patience_of_zero_only_warns_and_margins_and_patience_are_used(tmp_path: Path) -> None:
    values = [0.46] * 5
    guard, _, steps = scripted(tmp_path / "a", values, harm_patience=0)
    assert steps == 5 and guard.stopped is None and len(guard.warnings) == 1
    assert scripted(tmp_path / "b", values, harm_patience=2)[2] == 2
    assert not scripted(tmp_path / "c", values, harm_margin=0.05)[0].warnings


def test_what_was_found_survives_a_resume() -> None:
    guard, other = Guards(), Guards()
    guard.good, guard.best, guard.warnings = guard.good._replace(step=3), guard.best._replace(value=0.5), ["step 4"]
    guard._in_a_row["collapse"], guard._losses, guard._judged, guard._since = 1, [2.0], 3, 2
    other.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert other.state_dict() == guard.state_dict() and other.good.step == 3


def test_a_check_is_judged_once_also_across_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step after a resume is not taken for the one that was measured before."""
    monkeypatch.setattr("src.monitoring.guards.collapsed", lambda *arguments: None)  # every check of this run is good
    config = pretraining(tmp_path / "run", max_steps=6)
    config["monitor"] = {"every_n_steps": 2, "max_share": 1.0}
    config["guards"] = {"informs": 0, "usage_share": 0, "structure_margin": 9, "harm_margin": 9}
    resume: list[str] = []
    for stop in (2, 3):
        interrupt = {"class_path": "tests.command_line.InterruptAt", "init_args": {"step": stop}}
        config["trainer"]["callbacks"] = [interrupt]
        assert main(["fit", "--config", written(tmp_path / "x.yaml", config), *resume]) == 130
        assert step_of(Guards.good_file(tmp_path / "run")) == 2
        resume = ["--ckpt_path", "last"]


@pytest.mark.parametrize("wrong", [{"spike": 1.0}, {"rank_share": 1.5}, {"uniform": 0.0}, {"patience": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Guards(**wrong)
