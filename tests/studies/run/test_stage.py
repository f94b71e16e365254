"""An evaluation that is killed resumes where its checkpoint is, and finds what an undisturbed one finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from src.config.composition import override
from src.core.json_files import read_json, write_json
from src.studies.run import stage
from tests.command_line import ROOT, segmentation

CELL = {"stage": "evaluate", "title": "evaluate x", "cell": "a", "config": "b", "seed": 0}


class KillAfter(Callback):
    """Ends the process as SIGKILL does, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os._exit(9)


def evaluate(folder: Path, kill: int | None = None) -> int:
    """Run the stage in a process of its own, and return its exit code."""
    progress = {"class_path": "src.studies.run.progress.StageProgress"}
    killer = {"class_path": "tests.studies.run.test_stage.KillAfter", "init_args": {"step": kill}}
    config = override(
        segmentation(folder, max_epochs=-1, max_steps=6, limit_val_batches=0),
        {
            "trainer.callbacks": [progress, *([killer] if kill else [])],
            "checkpoint.every_n_steps": 1,
            "checkpoint.min_seconds": 0.0,
        },
    )
    folder.mkdir(exist_ok=True)
    (folder / "stage.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / "cell.json", CELL)
    command = [sys.executable, "-m", "src.studies.run.stage", str(folder), "evaluate", str(os.getpid())]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


@pytest.mark.slow
def test_a_killed_evaluation_resumes_and_finds_the_same(tmp_path: Path) -> None:
    assert evaluate(tmp_path / "calm") == 0
    assert evaluate(tmp_path / "killed", kill=4) == 9
    assert not (tmp_path / "killed" / "metrics.json").exists()
    (tmp_path / "killed" / "progress.json").unlink()
    assert evaluate(tmp_path / "killed") == 0
    progress, provenance = (read_json(tmp_path / "killed" / f"{name}.json") for name in ("progress", "provenance"))
    assert progress is not None and (progress["first"], progress["done"]) == (4, 6)
    assert provenance is not None and provenance["resumed"] is True
    calm, resumed = ((tmp_path / name / "metrics.json").read_bytes() for name in ("calm", "killed"))
    assert calm == resumed


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"[]"])
def test_a_damaged_checkpoint_is_named_and_not_there(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "last.ckpt"
    assert not stage.resumable(checkpoint)
    assert capsys.readouterr().err == ""
    checkpoint.write_bytes(content)
    assert not stage.resumable(checkpoint)
    assert f"{checkpoint} " in capsys.readouterr().err
