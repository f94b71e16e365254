"""Progress where stdout is a file: ten lines, whatever the number of steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.callbacks import progress
from src.callbacks.progress import Ticker
from src.cli import main as run
from tests.command_line import pretraining, written


class TestTicker:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def walk(self, ticker: Ticker, steps: range) -> None:
        for step in steps:
            self.now += 2.0
            ticker.to(step)

    def test_a_line_for_each_tenth(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.walk(Ticker("fit", 440), range(1, 441))
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines] == [f"{44 * tenth}/440" for tenth in range(1, 11)]

    def test_time_left_follows_the_speed_so_far(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.walk(Ticker("fit", 100), range(1, 11))
        assert capsys.readouterr().out == "fit 10/100 (10 %), 03:00 left\n"  # 90 steps of 2 s

    def test_steps_of_an_earlier_part_do_not_count_as_speed(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.walk(Ticker("fit", 100, start=50), range(51, 61))
        assert capsys.readouterr().out == "fit 60/100 (60 %), 01:20 left\n"  # 40 steps of 2 s

    def test_an_unknown_total_is_silent(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.walk(Ticker("fit", None), range(1, 50))
        assert capsys.readouterr().out == ""


def test_a_fit_shows_its_loss_once_for_each_tenth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = pretraining(tmp_path / "run", max_steps=20, enable_progress_bar=True)
    run(["fit", "--config", written(tmp_path / "x.yaml", config)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fit ")]
    assert len(lines) == 10
    assert lines[-1].startswith("fit 20/20 (100 %), 00:00 left epoch 9, loss ")
