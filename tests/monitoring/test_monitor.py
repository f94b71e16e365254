"""The monitor changes nothing of the run it watches, keeps to its share of the time, and measures what the run left."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from src.__main__ import main
from src.backbones.backbone import Backbone
from src.cli import main as run
from src.monitoring import monitor as monitor_module
from src.monitoring.feature_metrics import MetricPair
from src.monitoring.monitor import Monitor
from tests.command_line import ROOT, losses, pretraining, segmentation, weights, written

LABELLED = ["knn", "probe"]
FREE = ["rank/cls", "rank/patches", "cosine/cls", "cosine/patches", "agreement"]
LEVELS = [f"{kind}/{level}" for kind in ("entropy", "usage") for level in ("global", "regional", "local")]


def watched(folder: Path, every: int = 1, guards: int = 0, **trainer: Any) -> dict[str, Any]:
    """A tiny pre-training; no guard stops it, unless `guards`, their patience, is given."""
    config = pretraining(folder, **trainer)
    del config["guards"]
    patience = {"patience": guards, "harm_patience": guards}
    return {**config, "monitor": {"every_n_steps": every, "max_share": 1.0}, "guards": patience}


def monitor_of(trainer: Any) -> Monitor:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Monitor))


def rows(folder: Path, name: str) -> list[int]:
    """Steps, as Lightning counts them, from 0, at which a metric was logged."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get(name)]


def test_a_run_is_the_same_to_the_bit_with_and_without_it(tmp_path: Path) -> None:
    run(["fit", "--config", written(tmp_path / "on.yaml", watched(tmp_path / "on", max_steps=4))])
    run(["fit", "--config", written(tmp_path / "off.yaml", watched(tmp_path / "off", every=0, max_steps=4))])
    assert losses(tmp_path / "on") == losses(tmp_path / "off")
    expected = weights(tmp_path / "off")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "on").items())
    for name in [*LABELLED, *FREE, *LEVELS]:
        assert (
            rows(tmp_path / "on", f"monitor/{name}") == rows(tmp_path / "on", f"monitor/{name}/frozen") == [0, 1, 2, 3]
        )
    assert rows(tmp_path / "on", "monitor/share") == [0, 1, 2, 3]
    assert rows(tmp_path / "off", "monitor/agreement") == []


def test_the_last_check_is_of_the_adapter_that_the_run_leaves(tmp_path: Path) -> None:
    command = run(["fit", "--config", written(tmp_path / "x.yaml", watched(tmp_path / "run", every=100, max_steps=4))])
    assert rows(tmp_path / "run", "monitor/cosine/cls") == [3]
    teacher: Backbone = command.model.teacher.network.backbone
    images = command.datamodule.monitor_sample(16, 0).crops.global_views.images.flatten(0, 1)
    with torch.no_grad():
        adapted = teacher(images).cls
        with teacher.adapters_off():
            cosine = torch.cosine_similarity(adapted, teacher(images).cls, dim=-1).mean()
    sign = monitor_of(command.trainer).signs["cosine/cls"]
    assert sign.adapted == pytest.approx(float(cosine), abs=1e-5) and sign.adapted < 0.9999
    assert sign.frozen == pytest.approx(1, abs=1e-6)


class Clock(Callback):
    """Time that passes only by what is done: a step of training costs 1 second."""

    now = 0.0

    def monotonic(self) -> float:
        return Clock.now

    def on_train_batch_start(self, *_: Any) -> None:
        Clock.now += 1.0


class SlowSigns:
    """Costs half a second for the frozen backbone and half a second for each check."""

    def __init__(self, *_: Any) -> None:
        Clock.now += 0.5

    def measure(self, *_: Any) -> dict[str, MetricPair]:
        Clock.now += 0.5
        return {"agreement": MetricPair(0.5, 0.5), "rank/cls": MetricPair(9.0, 9.0)}


@pytest.mark.parametrize(
    ("steps", "checks"),
    [
        (70, [12, 24, 36, 48, 59, 70]),  # pays for 3.7 seconds of checks: the frozen one, the last one, five between
        (20, [20]),  # pays for nothing between
    ],
)
def test_checks_are_spread_over_five_percent_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, checks: list[int]
) -> None:
    Clock.now = 0.0
    monkeypatch.setattr(monitor_module, "time", Clock())
    monkeypatch.setattr(monitor_module, "FeatureMetrics", SlowSigns)
    config = watched(tmp_path / "run", max_steps=steps, callbacks=[{"class_path": f"{__name__}.Clock"}])
    config["monitor"] = {"every_n_steps": 4}
    command = run(["fit", "--config", written(tmp_path / "x.yaml", config)])
    assert [step + 1 for step in rows(tmp_path / "run", "monitor/agreement")] == checks
    spent = (1 + len(checks)) / 2
    assert (
        monitor_of(command.trainer).share == pytest.approx(spent / (steps + spent)) and spent / (steps + spent) <= 0.05
    )


def test_a_resumed_run_knows_what_was_measured_before(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", watched(tmp_path / "run", max_steps=2))
    first = monitor_of(run(["fit", "--config", path]).trainer)
    again = monitor_of(run(["fit", "--config", path, "--ckpt_path", "last"]).trainer)
    assert again.signs == first.signs and again.step == first.step == 2
    longer = run(["fit", "--config", path, "--ckpt_path", "last", "--trainer.max_steps", "4"])
    assert monitor_of(longer.trainer).state_dict()["spent"] > first.state_dict()["spent"]
    assert rows(tmp_path / "run", "monitor/agreement") == [0, 1, 2, 3]


def test_a_resumed_run_measures_at_the_steps_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "hasten", lambda self, step: None)  # findings of so short a run do not matter here
    interrupt = {"class_path": "tests.command_line.InterruptAt", "init_args": {"step": 3}}
    path = written(tmp_path / "x.yaml", watched(tmp_path / "run", every=2, max_steps=6, callbacks=[interrupt]))
    assert main(["fit", "--config", path]) == 130
    assert main(["fit", "--config", path, "--ckpt_path", "last", "--trainer.callbacks", "null"]) == 0
    assert rows(tmp_path / "run", "monitor/agreement") == [1, 3, 5]


def test_a_check_that_a_finding_has_hastened_is_made_after_a_resume_as_well(tmp_path: Path) -> None:
    interrupt = {"class_path": "tests.command_line.InterruptAt", "init_args": {"step": 9}}
    config = watched(tmp_path / "run", every=8, max_steps=13, callbacks=[interrupt])
    config["guards"]["informs"] = 1e3  # no target carries as much
    path = written(tmp_path / "x.yaml", config)
    assert main(["fit", "--config", path]) == 130
    assert main(["fit", "--config", path, "--ckpt_path", "last", "--trainer.callbacks", "null"]) == 0
    assert rows(tmp_path / "run", "monitor/agreement") == [7, 9, 11, 12]  # 2 steps after each finding, and the end


def test_other_fits_are_left_alone(tmp_path: Path) -> None:
    command = run(["fit", "--config", written(tmp_path / "x.yaml", segmentation(tmp_path / "run"))])
    assert not monitor_of(command.trainer).active
    assert not list((tmp_path / "run").rglob("adapter*"))


def test_numbers_out_of_range_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "x.yaml", watched(tmp_path / "run"))
    assert main(["fit", "--config", path, "--monitor.max_share", "0"]) != 0
    assert "max_share 0" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_measure_and_stop_together(tmp_path: Path) -> None:
    """The first measures while the other waits, also where targets sum over ranks; both stop at a guard."""
    config = watched(tmp_path / "run", guards=1, devices=2, strategy="ddp", max_steps=20)
    config["guards"] |= {"rank_share": 0.99}
    for level in config["model"]["init_args"]["objectives"].values():
        level["init_args"]["targets"] = {"class_path": "src.pretraining.targets.SinkhornKnopp"}
    command = [sys.executable, "-m", "src", "fit", "--config", written(tmp_path / "x.yaml", config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("stopped at step") == 1, done.stderr[-3000:]
    assert len(losses(tmp_path / "run")) < 20
    assert (tmp_path / "run" / "adapter.safetensors").is_file()
