"""Progress where stdout is a file: ten lines, whatever the number of steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli import main as run
from tests.command_line import pretraining, written


def test_a_fit_shows_its_loss_once_for_each_tenth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = pretraining(tmp_path / "run", max_steps=20, enable_progress_bar=True)
    run(["fit", "--config", written(tmp_path / "x.yaml", config)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fit ")]
    assert len(lines) == 10
    assert lines[-1].startswith("fit 20/20 (100 %), 00:00 left epoch 9, loss ")
