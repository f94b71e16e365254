"""`python -m src publish`: numbers with their provenance, and no picture that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.__main__ import main
from src.commands.study import write_results
from src.studies.cells import Store, write_json
from src.studies.results import Results
from src.studies.study import Study
from tests.studies.cells_on_disk import fill, study_file


@pytest.fixture
def study(tmp_path: Path, request: pytest.FixtureRequest) -> Study:
    """A finished study of the data set that the test names, in tmp_path/runs."""
    config = str(tmp_path / "segment.yaml")
    columns = {"linear": {"label": "Linear", "data": request.param, "config": config}}
    study = Study.read(study_file(tmp_path, columns=columns))
    store = Store(tmp_path / "runs" / "cells")
    fill(study, store)
    for cell in study.cells.values():
        write_json(store.folder(cell) / "cell.json", cell.content)
        (store.folder(cell) / "checkpoints").mkdir()
    write_results(Results(study, store), tmp_path / "runs" / "small")
    return study


def publish(folder: Path, name: str = "small") -> int:
    return main(["publish", name, "--runs", str(folder / "runs"), "--results", str(folder / "results")])


@pytest.mark.parametrize("study", ["scenes"], indirect=True)
def test_tables_and_every_cell_s_numbers_are_copied(study: Study, tmp_path: Path) -> None:
    (tmp_path / "results" / "small" / "cells" / "stale").mkdir(parents=True)
    assert publish(tmp_path) == 0
    target = tmp_path / "results" / "small"
    kinds = ("csv", "json", "md", "png", "svg", "tex")
    assert sorted(path.name for path in target.iterdir()) == ["cells", "report.html", *(f"table.{k}" for k in kinds)]
    assert {path.name for path in (target / "cells").iterdir()} == set(study.cells)
    for name in study.cells:
        files = sorted((target / "cells" / name).iterdir())
        assert [path.name for path in files] == ["cell.json", "metrics.json", "provenance.json"]
        assert all(path.read_bytes() == (tmp_path / "runs" / "cells" / name / path.name).read_bytes() for path in files)


@pytest.mark.parametrize("study", ["camvid"], indirect=True)
def test_a_report_with_images_of_others_stays_where_it_is(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(tmp_path) == 0
    assert not list((tmp_path / "results").rglob("*.html"))
    assert not list((tmp_path / "results").rglob("*.npz"))
    assert "report.html stays in runs/" in capsys.readouterr().out


def test_a_study_without_a_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(tmp_path, "smal") == 1
    assert "small/table.json" not in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
