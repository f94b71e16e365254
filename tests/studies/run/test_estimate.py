"""Time left, from what was measured."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from src.core.json_files import write_json
from src.studies.plan.cells import Cell, Store
from src.studies.run.estimate import Measured, clock, rest, running
from tests.studies.cells_on_disk import finish


def cell(made: str, stage: str = "evaluate") -> Cell:
    return Cell(stage, made, 0, {}, made)  # type: ignore[arg-type]


def test_a_cell_takes_as_long_as_its_like_else_as_its_stage() -> None:
    measured = Measured()
    for made, seconds in (("a", 10), ("a", 20), ("b", 60)):
        measured.add(cell(made), seconds)
    assert measured.seconds(cell("a")) == 15
    assert measured.seconds(cell("c")) == 30
    assert measured.seconds(cell("a", "pretrain")) == 15
    assert measured.seconds(cell("c", "pretrain")) is None


def test_a_cell_of_another_kind_is_measured_by_its_steps() -> None:
    measured = Measured()
    measured.add(Cell("pretrain", "a", 0, {"trainer": {"max_steps": 10}}, "a"), 50)
    measured.add(Cell("pretrain", "b", 0, {"trainer": {"max_steps": 100}}, "b"), 300)
    assert measured.seconds(Cell("pretrain", "c", 0, {"trainer": {"max_steps": 440}}, "c")) == 440 * (5 + 3) / 2
    assert measured.seconds(Cell("pretrain", "c", 0, {"trainer": {"max_steps": -1}}, "c")) == 175  # counts epochs


def test_finished_cells_are_measured_from_their_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(cell("a"), store)
    assert Measured.of(store, [cell("a"), cell("b")]).by_kind == {"a": [60.0]}


def test_what_is_unknown_counts_as_the_mean_of_what_is_known() -> None:
    measured = Measured()
    measured.add(cell("a"), 10)
    assert rest(measured, [cell("a"), cell("b", "pretrain")], [40.0]) == pytest.approx(75)
    assert rest(Measured(), [cell("a")], [None]) is None


def test_a_running_cell_is_judged_by_its_pace_since_this_process_began(tmp_path: Path) -> None:
    now = time.time()
    note = {"done": 60, "total": 100, "first": 50, "began": now - 20, "at": now}
    write_json(tmp_path / "progress.json", note)
    share, left = running(tmp_path, now - 25, None)
    assert share == 0.6
    assert left == pytest.approx(80, abs=1)  # 2 s a step, 40 to go
    assert running(tmp_path, now - 25, usual=100)[1] == pytest.approx(75, abs=1)


def test_nothing_is_claimed_before_the_first_step(tmp_path: Path) -> None:
    assert running(tmp_path, time.time(), None) == (None, None)
    write_json(tmp_path / "progress.json", {"done": 0, "total": 100, "first": 0, "began": 1, "at": 1})
    assert running(tmp_path, time.time(), None) == (0.0, None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (89, "89 s"), (95, "2 min"), (5340, "89 min"), (7500, "2 h 05 min")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
