"""The table of ratios: contestants take turns, a row is their ratio, and all of it runs at toy size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
FAKE = """
import sys, time
sys.path.insert(0, {folder!r})
from pace import Pace
pace = Pace(int(sys.argv[-1]))
held = b"x" * {held}
print("noise of a library")
for step in range(100):
    pace.before()
    time.sleep({seconds})
    pace.after({loss})
    {after}
"""


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ratios  # type: ignore[import-not-found]

    return ratios


def fake(ratios: ModuleType, seconds: float, loss: float = 1.0, held: int = 0, after: str = "") -> Any:
    code = FAKE.format(folder=str(BENCHMARKS), seconds=seconds, loss=loss, held=held, after=after)
    return ratios.Contestant("fake", (sys.executable, "-c", code))


def test_a_row_is_the_ratio_of_time_and_memory_and_the_difference_of_losses(ratios: ModuleType) -> None:
    pair = ratios.Pair("commit", "words", fake(ratios, 0.05, 2.0), fake(ratios, 0.15, 2.5, held=200 * 2**20))
    row = ratios.measure(pair, turns=2, steps=2)
    assert row["time_ratio"] == pytest.approx(3, rel=0.5)
    assert row["other_peak_mib"] - row["ours_peak_mib"] > 150
    assert row["memory_ratio_above_imports"] > 10
    assert row["largest_relative_difference_of_losses"] == pytest.approx(0.25)
    text = ratios.table([row, {**row, "failed": True}], None)
    assert "| commit | words | fake | fake |" in text and "failed" in text and "2.5e-01" in text


def test_a_contestant_that_ends_is_named_with_its_last_words(ratios: ModuleType) -> None:
    ended = fake(ratios, 0.0, after="raise SystemExit('no such instruction')")
    with pytest.raises(RuntimeError, match=r"fake ended:\n.*no such instruction"):
        ratios.measure(ratios.Pair("own", "words", fake(ratios, 0.0), ended), turns=2, steps=1)


@pytest.mark.slow
def test_the_table_runs_at_toy_size(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = [
        sys.executable,
        str(BENCHMARKS / "ratios.py"),
        "--toy",
        "--turns",
        "1",
        "--steps",
        "1",
        "--out",
        str(out),
    ]
    only = [part for name in ("own", "commit", "reader") for part in ("--only", name)]
    done = subprocess.run(
        [*command, *only, "--commit", "HEAD"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    assert {row["part"] for row in report["rows"]} == {"own", "commit"} and report["reader"]["ratio"] > 0
    for row in report["rows"]:
        assert row["time_ratio"] > 0 and row["ours_peak_mib"] > 100
        if row["part"] == "commit":
            assert row["largest_relative_difference_of_losses"] == 0
    assert done.stdout.startswith("| | setting |") and "torchvision v2" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["small", "calibrated"])
def test_the_profile_of_a_step_runs_at_toy_size(preset: str, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    command = [sys.executable, str(BENCHMARKS / "profile_step.py"), "--toy", "--preset", preset, "--steps", "2"]
    done = subprocess.run(
        [*command, "--trainer.precision", "32-true", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.read_text())
    assert sum(report["kernels"].values()) == pytest.approx(1, abs=0.01)
    parts = {name: value for name, value in report["parts"].items() if "waiting" not in name}
    assert sum(parts.values()) == pytest.approx(report["seconds_a_step"], rel=0.01)
    assert {"teacher's or frozen backbone", "student's backbone, backward", "losses, backward", "optimiser"} <= set(
        parts
    )
    assert report["parts"]["the rest of a step"] >= 0 and report["seconds_a_monitor_check"] > 0
