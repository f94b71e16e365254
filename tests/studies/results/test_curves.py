"""Curves out of metrics.csv."""

from __future__ import annotations

from pathlib import Path

from src.studies.results.curves import read_curves


def test_gaps_are_left_out_and_a_repeated_step_counts_once_with_its_later_value(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,a,b\n0,0,1.0,\n10,0,2.0,5.0\n20,0,3.0,\n10,0,2.5,\n20,0,3.5,6\n")
    assert read_curves(path) == {"a": [(0, 1.0), (10, 2.5), (20, 3.5)], "b": [(10, 5.0), (20, 6.0)]}


def test_no_file_means_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "metrics.csv") == {}
