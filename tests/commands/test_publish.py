"""`python -m src publish`: numbers with their provenance, and no picture that is not ours."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from src.__main__ import main
from src.core.json_files import write_json
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.files import write_results
from src.studies.results.results import Results
from tests.core.test_names import BAD
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
    assert sorted(path.name for path in target.iterdir()) == ["cells", *(f"table.{k}" for k in kinds)]
    assert {path.name for path in (target / "cells").iterdir()} == set(study.cells)
    for name in study.cells:
        files = sorted((target / "cells" / name).iterdir())
        assert [path.name for path in files] == ["cell.json", "metrics.json", "provenance.json"]
        assert all(path.read_bytes() == (tmp_path / "runs" / "cells" / name / path.name).read_bytes() for path in files)


@pytest.mark.parametrize("study", ["camvid", "scenes"], indirect=True)
def test_a_report_with_images_stays_where_it_is(
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


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("study", ["camvid"], indirect=True)
def test_a_path_is_refused_in_one_line_and_nothing_is_touched(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["publish", "small"]) == 0
    for folder in ("runs", "results"):  # what `publish .` and `publish ..` would look for
        shutil.copy(tmp_path / "runs" / "small" / "table.json", tmp_path / folder / "table.json")
    shutil.copy(tmp_path / "runs" / "small" / "table.json", tmp_path / "table.json")
    before = everything(tmp_path)
    capsys.readouterr()
    absolute = str(tmp_path / "runs" / "small")
    paths = [absolute, "../runs/small", "runs/small", "small/", "./small", "../results/small", "small/../small", *BAD]
    for name in paths:
        assert main(["publish", *([] if name.startswith("-") else ["--"]), name]) == 2, name
        assert len(capsys.readouterr().err.splitlines()) <= 1 + name.startswith("-"), name
        assert everything(tmp_path) == before, name


@pytest.mark.parametrize("study", ["camvid"], indirect=True)
@pytest.mark.parametrize(
    "case", ["results is runs", "results links to runs", "target links to source", "target holds runs", "in source",
             "the cells", "in the cells"]
)  # fmt: skip
def test_the_source_is_never_replaced_by_its_copy(
    case: str, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    if case == "results is runs":
        results = tmp_path / "runs" / ".." / "runs"
    elif case == "results links to runs":
        results.symlink_to(runs)
    elif case == "target links to source":
        results.mkdir()
        (results / "small").symlink_to(os.path.relpath(runs / "small", results))
    elif case == "target holds runs":
        results.mkdir()
        runs = runs.rename(results / "small")
    elif case == "in source":
        results = runs / "small"
    elif case == "the cells":
        results.mkdir()
        (results / "small").symlink_to(runs / "cells")
    else:
        results = runs / "cells"
    before = everything(tmp_path)
    assert main(["publish", "small", "--runs", str(runs), "--results", str(results)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a folder that does not overlap " in line and line.endswith("; give another --results")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("study", ["camvid"], indirect=True)
def test_a_table_cannot_name_files_outside_of_the_cells(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "runs" / "small" / "table.json"
    content = json.loads(table.read_text())
    content["rows"][0]["entries"]["linear"]["cells"] = ["../../elsewhere"]
    table.write_text(json.dumps(content))
    assert publish(tmp_path) == 1
    assert "table.json, cells: expected one folder name, found '../../elsewhere'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("study", ["camvid"], indirect=True)
def test_a_copy_that_fails_leaves_what_was_published(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publish(tmp_path) == 0
    before = everything(tmp_path)
    copied = []

    def full(source: Path, target: Path) -> None:
        copied.append(target)
        if len(copied) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert publish(tmp_path) == 1
    assert everything(tmp_path) == before
