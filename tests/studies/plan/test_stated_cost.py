"""The cost that a configuration's header states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from src.studies.plan.stated_cost import StatedCost, stated_cost, stated_text
from src.studies.plan.study import Study
from tests.command_line import ROOT


@pytest.mark.parametrize(
    ("header", "seconds", "memory"),
    [
        ("# COST  2 cores: 3 minutes (150 seconds measured, test included), 2.3 GB of memory.", 180, 2.3e9),
        ("# COST  2 cores: 26 minutes (3.5 seconds a step; 12 minutes with bf16-mixed), 2.1 GB.", 1560, 2.1e9),
        ("# COST  not measured: 40,000 steps; a guess for one 80 GB GPU is 5 hours.", 18000, None),
        ("# COST  2 cores, as measured:\n#       80 seconds.", 80, None),
        ("# COST  not measured.\n# 5 hours ago", None, None),
        ("x: 1\n# COST  5 hours", None, None),
        ("", None, None),
    ],
)
def test_durations_and_memory(tmp_path: Path, header: str, seconds: float | None, memory: float | None) -> None:
    (tmp_path / "x.yaml").write_text(f"{header}\ntrainer: {{}}\n")
    assert stated_cost(tmp_path / "x.yaml") == StatedCost(seconds, memory)


def test_the_words_are_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# What.\n# COST  2 cores, as measured:\n#       80 seconds.\n# More.\nx: 1\n")
    assert stated_text(tmp_path / "x.yaml") == "2 cores, as measured: 80 seconds."


def test_twice_the_steps_take_twice_the_time() -> None:
    assert StatedCost(10, 5).scaled(2) == StatedCost(20, 5)
    assert StatedCost().scaled(2) == StatedCost()


@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "segment").glob("*/linear.yaml")), ids=str)
def test_our_own_configurations_state_theirs(file: Path) -> None:
    assert 60 <= (stated_cost(file).seconds or 0) <= 86400


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_tables_of_the_paper_say_how_many_gpu_hours_they_take(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = re.search(r"paper: about ([\d,]+) GPU hours for (\d+) cells", file.read_text())
    if "\nscales:" not in file.read_text():
        assert stated is None
        return
    for name in ("DATA_ROOT", "WEIGHTS_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    costs = [cell.stated.seconds for cell in Study.read(file, "paper").cells.values()]
    assert stated is not None and None not in costs
    assert int(stated[2]) == len(costs)
    assert int(stated[1].replace(",", "")) == round(sum(cost for cost in costs if cost is not None) / 3600)
