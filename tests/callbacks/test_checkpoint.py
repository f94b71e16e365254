"""No way to end a fit costs work."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from safetensors import safe_open

from src.__main__ import main
from src.callbacks.checkpoint import RunCheckpoint
from src.callbacks.checkpoint_io import AtomicCheckpointIO, with_atomic_files
from src.cli import main as run
from tests.command_line import losses, pretraining, segmentation, weights, written


def with_callback(name: str, **arguments: Any) -> dict[str, Any]:
    return {"callbacks": [{"class_path": f"tests.command_line.{name}", "init_args": arguments}]}


def logged_steps(run_folder: Path) -> list[int]:
    with (run_folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


def step_of(run_folder: Path) -> int:
    return torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def test_an_interrupted_fit_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Interrupted in the middle of the second epoch of two batches: same losses, same weights, to the bit."""
    whole = written(tmp_path / "whole.yaml", pretraining(tmp_path / "whole", max_steps=6))
    run(["fit", "--config", whole])
    parts = pretraining(tmp_path / "parts", max_steps=6, **with_callback("InterruptAt", step=3))
    assert main(["fit", "--config", written(tmp_path / "parts.yaml", parts)]) == 130
    assert step_of(tmp_path / "parts") == 3 and len(losses(tmp_path / "parts")) == 3
    resume = f"--config {tmp_path}/parts/config.yaml --ckpt_path {tmp_path}/parts/checkpoints/last.ckpt"
    assert f"python -m src fit {resume}\n" in capfd.readouterr().err
    assert main(["fit", *resume.split()]) == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "parts").items())


def test_an_interrupted_fit_ends_the_step_whose_batches_it_accumulates(tmp_path: Path) -> None:
    callback = with_callback("InterruptAt", step=0)  # after the first of two batches
    config = pretraining(tmp_path / "run", max_steps=6, accumulate_grad_batches=2, **callback)
    assert main(["fit", "--config", written(tmp_path / "x.yaml", config)]) == 130
    assert step_of(tmp_path / "run") == 1


def test_an_interrupted_validation_is_resumed(tmp_path: Path) -> None:
    callback = with_callback("InterruptAt", step=2, during="validation")
    path = written(tmp_path / "x.yaml", segmentation(tmp_path / "run", max_steps=6, **callback))
    assert main(["fit", "--config", path]) == 130
    assert step_of(tmp_path / "run") == 2
    assert main(["fit", "--config", path, "--ckpt_path", "last", "--trainer.callbacks", "null"]) == 0
    assert step_of(tmp_path / "run") == 6
    assert len(losses(tmp_path / "run")) == 6


def test_a_fit_that_fails_leaves_its_last_step(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run", max_steps=6, **with_callback("FailAt", step=3)))
    assert main(["fit", "--config", path]) == 1
    assert step_of(tmp_path / "run") == 3


def test_the_adapter_file_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "run", max_steps=4))])
    with safe_open(tmp_path / "run" / "adapter.safetensors", "pt") as file:
        assert "4" in file.metadata().values()
    assert not list((tmp_path / "run").glob("partial*"))


def test_checkpoints_come_every_n_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(RunCheckpoint, "save", lambda self, trainer: saved.append(trainer.global_step))
    steps = ["--checkpoint.every_n_steps", "3", "--checkpoint.min_seconds", "0"]
    run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "run", max_steps=7)), *steps])
    assert sorted(set(saved)) == [2, 3, 4, 6, 7]  # 3 and 6 are due, 2, 4 and 6 end an epoch, 7 the fit


def test_a_step_is_in_metrics_csv_before_it_is_in_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed after its checkpoint resumes behind the step, and would never log it."""
    logged: dict[int, list[int]] = {}
    save = RunCheckpoint.save

    def recorded(self: RunCheckpoint, trainer: Trainer) -> None:
        logged.setdefault(trainer.global_step, logged_steps(tmp_path / "run"))
        save(self, trainer)

    monkeypatch.setattr(RunCheckpoint, "save", recorded)
    config = pretraining(tmp_path / "run", max_steps=5, log_every_n_steps=1)
    steps = ["--checkpoint.every_n_steps", "1", "--checkpoint.min_seconds", "0"]
    run(["fit", "--config", written(tmp_path / "x.yaml", config), *steps])
    assert logged == {step: list(range(step)) for step in range(1, 6)}
    assert logged_steps(tmp_path / "run") == list(range(5))  # each once


def test_young_checkpoints_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(RunCheckpoint, "save", lambda self, trainer: saved.append(trainer.global_step))
    path = written(tmp_path / "x.yaml", pretraining(tmp_path / "run", max_steps=7))
    run(["fit", "--config", path, "--checkpoint.min_seconds", "1e6"])
    assert saved == [7]


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one_on_resume(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(
        tmp_path / "x.yaml",
        {**pretraining(tmp_path / "run", max_steps=4), "checkpoint": {"every_n_steps": 1, "min_seconds": 0.0}},
    )
    assert main(["fit", "--config", path]) == 0
    last, previous = (tmp_path / "run" / "checkpoints" / name for name in ("last.ckpt", "last.previous.ckpt"))
    whole, expected, lines = last.read_bytes(), weights(tmp_path / "run"), losses(tmp_path / "run")
    resume = ["fit", "--config", path, "--ckpt_path"]
    last.write_bytes(whole[: len(whole) // 2])
    capfd.readouterr()
    assert main([*resume, str(last)]) == 0
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert str(last) in warning and str(previous) in warning
    assert step_of(tmp_path / "run") == 4 and losses(tmp_path / "run") == [*lines, lines[-1]]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "run").items())

    last.unlink()  # as a kill leaves it where files cannot be linked
    assert main([*resume, "last"]) == 0
    assert step_of(tmp_path / "run") == 4

    for file in (last, previous):
        file.write_bytes(whole[: len(whole) // 2])
    capfd.readouterr()
    assert main([*resume, "last"]) == 1
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{last}: expected a whole checkpoint, found a file that" in error and str(previous) in error


def test_a_checkpoint_io_of_the_user_is_kept() -> None:
    mine = TorchCheckpointIO()
    assert with_atomic_files(mine) == [mine]
    assert with_atomic_files([mine, "x"]) == [mine, "x"]
    for given in (None, [], "x", ["x"]):
        *others, ours = with_atomic_files(given)
        assert isinstance(ours, AtomicCheckpointIO) and others == (["x"] if given else [])


def test_removing_a_checkpoint_removes_the_previous_one(tmp_path: Path) -> None:
    files = AtomicCheckpointIO()
    for step in (1, 2):
        files.save_checkpoint({"step": step}, str(tmp_path / "checkpoints" / "a.ckpt"))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    files.remove_checkpoint(str(tmp_path / "checkpoints" / "a.ckpt"))
    assert not list((tmp_path / "checkpoints").iterdir())


def test_checkpoints_can_be_switched_off(tmp_path: Path) -> None:
    run(["fit", "--config", written(tmp_path / "x.yaml", pretraining(tmp_path / "run", enable_checkpointing=False))])
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_every_n_steps_must_be_positive() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be at least 1, got 0"):
        RunCheckpoint(every_n_steps=0)
