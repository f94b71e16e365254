"""A sweep of real processes: killed and gone on with, several at a time, failures reported."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from src.sweeps import local, process
from src.sweeps.definition import Sweep
from tests.command_line import ROOT
from tests.sweeps.sweep_files import sweep, written

RATES = {"lr": {"values": [0.1, 0.001, 0.01]}}


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "POLL", 0.05)
    monkeypatch.setattr(local, "RETRY", 0.1)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def starts(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted(folder.glob("*/starts.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def in_another_process(file: Path, folder: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from src.sweeps import local; from src.sweeps.definition import Sweep; "
        "local.RETRY = 0.1; local.run(Sweep.read(Path(sys.argv[1])), Path(sys.argv[2]), None)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(file), str(folder)], cwd=ROOT)


def test_the_table_has_the_last_value_of_each_trial_best_first(tmp_path: Path) -> None:
    assert local.run(sweep(tmp_path, RATES), tmp_path / "out", None) == 0
    assert [(row["lr"], round(float(row["loss"]), 6)) for row in table(tmp_path / "out")] == [
        ("0.001", 0.5),  # no decade away, plus 1/2 at the last of two steps
        ("0.01", 1.5),
        ("0.1", 2.5),
    ]
    text = (tmp_path / "out" / "table.md").read_text()
    assert "3 done. loss: lower is better." in text
    assert "| 1 | 0.5 | 0.001 |" in text
    chart = (tmp_path / "out" / "parallel.svg").read_text()
    assert "<dc:title>3 trials of sweep over lr, loss</dc:title>" in chart
    drawn = [chart.index(f'<g id="trial-{number}">') for number in (0, 2, 1)]
    assert drawn == sorted(drawn)  # the best is drawn last, over the others


def test_failed_trials_are_reported_and_the_others_run(tmp_path: Path) -> None:
    modes = {"mode": {"values": ["crash", "nan", "fine"]}, "lr": {"value": 0.001}}
    assert local.run(sweep(tmp_path, modes), tmp_path / "out", None) == 2
    assert [(row["mode"], row["state"], row["note"]) for row in table(tmp_path / "out")] == [
        ("fine", "done", ""),
        ("crash", "failed", "exit code 1: RuntimeError: out of memory"),
        ("nan", "failed", "loss is nan at the end"),
    ]
    assert [row["loss"] for row in table(tmp_path / "out")[1:]] == ["", ""]  # a last value is no result of a failed run
    assert "- trial 0: exit code 1: RuntimeError: out of memory" in (tmp_path / "out" / "table.md").read_text()


def test_a_metric_that_is_never_logged_is_named_with_those_that_are(tmp_path: Path) -> None:
    searched = sweep(tmp_path, {"lr": {"value": 0.1}}, metric={"name": "val/miou"})
    assert local.run(searched, tmp_path / "out", None) == 1
    assert (
        table(tmp_path / "out")[0]["note"] == f"no val/miou in {tmp_path / 'out' / '0000' / 'metrics.csv'}: step,loss"
    )


def test_a_trial_is_stopped_early_and_leaves_its_checkpoint(tmp_path: Path) -> None:
    rates = {"lr": {"values": [0.001, 1.0]}, "steps": {"value": 20}, "sleep": {"value": 0.05}}
    searched = sweep(tmp_path, rates, early_terminate={"type": "hyperband", "min_iter": 4, "eta": 2})
    local.run(searched, tmp_path / "out", None)
    assert [(row["trial"], row["state"]) for row in table(tmp_path / "out")] == [("0", "done"), ("1", "stopped early")]
    assert 4 <= int((tmp_path / "out" / "0001" / "checkpoints" / "last.ckpt").read_text()) < 20


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_the_trial_that_ran(tmp_path: Path) -> None:
    slow = {"lr": {"values": [0.1, 0.01]}, "steps": {"value": 40}, "sleep": {"value": 0.05}}
    file = written(tmp_path, slow)
    killed = in_another_process(file, tmp_path / "out")
    while len(process.logged(tmp_path / "out" / "0000", "loss")) < 3:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert local.run(Sweep.read(file), tmp_path / "out", None) == 0
    assert [(row["trial"], row["state"]) for row in table(tmp_path / "out")] == [("1", "done"), ("0", "done")]
    begun = [one for one in starts(tmp_path / "out") if one["lr"] == "0.1"]
    assert [one.get("ckpt_path") for one in begun] == [None, "last"]  # its process ended with the killed one, tidily
    assert len(process.logged(tmp_path / "out" / "0000", "loss")) == 40


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    file = written(tmp_path, {"lr": {"values": [0.1, 0.2, 0.3, 0.4]}, "sleep": {"value": 0.3}})
    both = [in_another_process(file, tmp_path / "out") for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert sorted(one["lr"] for one in starts(tmp_path / "out")) == ["0.1", "0.2", "0.3", "0.4"]
    assert [row["state"] for row in table(tmp_path / "out")] == ["done"] * 4


class TestLogged:
    def test_the_later_row_of_a_step_counts_and_half_a_row_does_not(self, tmp_path: Path) -> None:
        (tmp_path / "metrics.csv").write_text("step,loss,other\n1,5,\n2,,7\n3,4,\n1,6,\n4,")
        assert process.logged(tmp_path, "loss") == [6.0, 4.0]

    def test_nothing_yet(self, tmp_path: Path) -> None:
        assert process.logged(tmp_path, "loss") == []
