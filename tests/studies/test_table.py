"""Tables from result files alone."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

import pytest

from src.studies.cells import Cell, Store, write_json
from src.studies.results import Results
from src.studies.study import Study
from src.studies.table import as_json, markdown
from tests.studies.cells_on_disk import fill, finish, study_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cells")


def line(text: str, start: str) -> list[str]:
    """The cells of the table's line that starts so."""
    found = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [part.strip() for part in found.strip("|").split("|")]


def miou(right: int) -> float:
    """Of `cells_on_disk.confusions`: hits of right + 0, 1, 2, 3 of 100 in turn."""
    hits = right + 1.5
    return 100 * hits / (200 - hits)


def test_values_deviations_differences_and_counts(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    frozen, ours = [miou(50), miou(51)], [miou(58), miou(59)]
    text = markdown(Results(study, store))
    assert line(text, "Frozen")[1] == f"{fmean(frozen):.1f} ± {stdev(frozen):.1f} (2)"
    assert line(text, "Frozen")[2] == f"{miou(50):.1f} (1, nothing random)"
    assert line(text, "GLARE")[1] == (
        f"{fmean(ours):.1f} ± {stdev(ours):.1f} (2) **+{fmean(ours) - fmean(frozen):.1f}**"
    )
    assert "GLARE (Linear) helped: +" in text
    entry = as_json(Results(study, store))["rows"][1]["entries"]["linear"]
    assert entry["values"] == pytest.approx(ours)
    assert entry["difference"] == pytest.approx(fmean(ours) - fmean(frozen))
    assert (entry["n"], entry["missing"]) == (2, 0)


def test_bold_only_where_it_is_certain(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path, seeds=[0]))
    fill(study, store)
    text = markdown(Results(study, store))
    assert "**" not in line(text, "GLARE")[1]
    assert "nothing is certain" in text
    assert line(text, "GLARE")[1].endswith(f"(1) +{miou(58) - miou(50):.1f}")


def test_what_has_not_run_shows_as_dots_and_no_verdict_is_made_up(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    empty = Results(study, store)
    assert line(markdown(empty), "GLARE")[1:] == ["…", "…"]
    assert as_json(empty)["verdicts"] == []
    assert not empty.complete
    for cell in study.cells.values():
        if cell.label == "Frozen, Linear" and cell.seed == 0:
            finish(cell, store)
    assert line(markdown(Results(study, store)), "Frozen")[1] == f"{miou(50):.1f} (1) …"


def test_the_difference_is_over_the_seeds_that_both_rows_have(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    late = next(cell for cell in study.cells.values() if cell.label == "GLARE, Linear" and cell.needs.seed == 1)
    (store.folder(late) / "metrics.json").unlink()
    results = Results(study, store)
    assert results.difference("glare", "linear") == pytest.approx(miou(58) - miou(50))
    assert results.verdicts["glare", "linear"].miou.difference == pytest.approx(miou(58) - miou(50))


def test_the_footer_has_the_end_of_a_failed_log(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    broken = next(cell for cell in study.cells.values() if cell.stage == "pretrain")
    (store.folder(broken) / "metrics.json").unlink()
    failure = {"title": broken.title, "reason": "exit code 3", "log": ["loading", "it broke"]}
    write_json(store.folder(broken) / "failure.json", failure)
    text = markdown(Results(study, store))
    assert f"**Failed: {broken.title}** (exit code 3)" in text
    assert "```\nloading\nit broke\n```" in text
    assert as_json(Results(study, store))["failures"] == [failure]


def test_the_footer_says_where_numbers_come_from(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    last = markdown(Results(study, store)).strip().splitlines()[-1]
    for part in ("python -m src study", "commit 0123456789ab", "two cores", "9 min of computing", "2026-01-02"):
        assert part in last


def test_rows_on_other_images_are_not_compared(tmp_path: Path, store: Store) -> None:
    study = Study.read(study_file(tmp_path))
    for cell in study.cells.values():
        finish(cell, store, images=12 if cell.needs else 13)
    with pytest.raises(ValueError, match="same images"):
        markdown(Results(study, store))


def test_a_metric_that_does_not_exist_is_named(tmp_path: Path, store: Store) -> None:
    column = {"data": "scenes", "config": str(tmp_path / "segment.yaml"), "metric": "iou/car"}
    study = Study.read(study_file(tmp_path, columns={"cars": column}))
    fill(study, store)
    with pytest.raises(ValueError, match="column cars: no metric 'iou/car' in evaluate Frozen"):
        Results(study, store)


def test_a_metric_of_one_class(tmp_path: Path, store: Store) -> None:
    column = {"data": "scenes", "config": str(tmp_path / "segment.yaml"), "metric": "iou/road"}
    study = Study.read(study_file(tmp_path, columns={"roads": column}))
    fill(study, store)
    results = Results(study, store)
    assert results.entries["frozen", "roads"].mean == pytest.approx((miou(50) + miou(51)) / 2)
    assert results.verdicts == {}  # they are about mIoU


def test_rendering_reads_no_more_than_the_results(tmp_path: Path, store: Store) -> None:
    """A finished cell's run folder may lose its checkpoints."""
    study = Study.read(study_file(tmp_path))
    fill(study, store)
    kept = {"metrics.json", "provenance.json", "confusion.npz"}

    def strip(cell: Cell) -> None:
        for path in store.folder(cell).iterdir():
            if path.name not in kept:
                path.unlink()

    before = markdown(Results(study, store))
    for cell in study.cells.values():
        strip(cell)
    assert markdown(Results(study, store)) == before
