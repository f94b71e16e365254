"""Progress where stdout is a file: ten lines, whatever the number of steps, or one now and then."""

from __future__ import annotations

import io
import sys

import pytest

from src.core import ticker
from src.core.ticker import Ticker


class TestTicker:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(ticker.time, "monotonic", lambda: self.now)

    def walk(self, counted: Ticker, steps: range) -> None:
        for step in steps:
            self.now += 2.0
            counted.to(step)

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

    def test_a_line_now_and_then_with_the_time_gone(self, capsys: pytest.CaptureFixture[str]) -> None:
        counted = Ticker("study", 9, start=2, every=60.0)
        for _ in range(70):  # 2 s each
            self.now += 2.0
            counted.to(3, lambda: "[4/9] GLARE 40%")
        counted.say("[4/9] GLARE: done")
        assert capsys.readouterr().out.splitlines() == [
            "study 3/9, 01:00 elapsed; [4/9] GLARE 40%",
            "study 3/9, 02:00 elapsed; [4/9] GLARE 40%",
            "[4/9] GLARE: done",
        ]


def test_a_terminal_has_a_bar_with_the_note_below_what_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    counted = Ticker("study", 9, every=60.0)
    counted.to(3, lambda: "GLARE 40%")
    counted.say("[4/9] done")
    counted.close()
    assert "study 3/9 [00:00, GLARE 40%]" in terminal.getvalue()
    assert capsys.readouterr().out == "[4/9] done\n"
