"""Verdicts out of a folder are those of the study that wrote it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from src.core.json_files import write_json
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.table import as_json
from src.studies.results.results import Results
from src.studies.results.verdicts import judged
from tests.studies.cells_on_disk import fill, study_file


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A finished study whose cells lie in runs/cells, and its table in runs/small."""
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "runs" / "cells")
    fill(study, store)
    found = Results(study, store)
    (tmp_path / "runs" / "small").mkdir()
    write_json(tmp_path / "runs" / "small" / "table.json", as_json(found))
    return found


def test_a_run_folder_gives_the_verdicts_of_its_study(results: Results, tmp_path: Path) -> None:
    found = judged(tmp_path / "runs" / "small")
    assert [item.verdict for item in found] == list(results.verdicts.values())
    assert [item.label for item in found] == ["GLARE (Linear)", "GLARE (30-NN)"]
    assert not any(item.recorded for item in found)
    assert found[0].cost.pretraining == 60.0


def test_published_results_without_matrices_keep_the_recorded_verdicts(results: Results, tmp_path: Path) -> None:
    shutil.move(tmp_path / "runs" / "cells", tmp_path / "runs" / "small" / "cells")
    for path in (tmp_path / "runs" / "small" / "cells").rglob("confusion.npz"):
        path.unlink()
    found = judged(tmp_path / "runs" / "small")
    assert all(item.recorded for item in found)
    assert [item.verdict for item in found] == list(results.verdicts.values())


def test_rows_evaluated_on_other_images_are_refused(results: Results, tmp_path: Path) -> None:
    path = results.store.folder(results.cell("glare", "linear", 1)) / "confusion.npz"
    with np.load(path) as file:
        matrices, names = file["matrices"], file["names"]
    np.savez_compressed(path, matrices=matrices, names=names[::-1])
    with pytest.raises(ValueError, match="not evaluated on the same images"):
        judged(tmp_path / "runs" / "small")


def test_a_folder_without_a_table_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"table\.json: no such file.*python -m src study"):
        judged(tmp_path)


def test_a_study_that_has_not_run_has_no_verdict(tmp_path: Path) -> None:
    study = Study.read(study_file(tmp_path))
    write_json(tmp_path / "table.json", as_json(Results(study, Store(tmp_path / "cells"))))
    with pytest.raises(FileNotFoundError, match="only Frozen has results so far"):
        judged(tmp_path)
