"""Rows that are measured in some columns only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from src.core.json_files import write_json
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.html import html
from src.studies.report.table import as_json, markdown
from src.studies.results.results import Results
from src.studies.results.verdicts import judged
from tests.studies.cells_on_disk import fill, study_file


def test_a_row_may_be_measured_in_some_columns_only(tmp_path: Path) -> None:
    rows = {
        "frozen": {"label": "Frozen", "pretrain": None},
        "averaged": {"label": "Averaged", "pretrain": None, "columns": ["knn"], "set": {"x": 1}},
        "glare": {"label": "GLARE"},
    }
    study = Study.read(study_file(tmp_path, rows=rows))
    assert not study.measures("averaged", "linear")
    assert len(study.cells) == 2 + 1 + 1 + 2 + 2 + 2  # frozen, averaged, GLARE: two columns and pre-training
    store = Store(tmp_path / "cells")
    fill(study, store)
    results = Results(study, store)
    assert results.complete
    text = markdown(results)
    assert re.search(r"\| Averaged \| – \| [\d.]+ \(1, nothing random\) 0\.0 \|", text)
    assert "Averaged (Linear)" not in text
    assert ">–<" in html(results)
    entry = as_json(results)["rows"][1]["entries"]["linear"]
    assert (entry["cells"], entry["mean"], entry["missing"]) == ([], None, 0)
    folder = tmp_path / "small"
    folder.mkdir()
    write_json(folder / "table.json", as_json(results))
    assert {item.label for item in judged(folder)} == {"Averaged (30-NN)", "GLARE (Linear)", "GLARE (30-NN)"}
    with pytest.raises(ValueError, match="row averaged is not measured in linear, only in knn"):
        study.only(["averaged/linear"])


@pytest.mark.parametrize(
    ("baseline", "rows", "message"),
    [
        ("b", {"a": {"columns": ["linaer"]}, "b": {}}, "row a: 'linaer' is not a column, did you mean 'linear'?"),
        ("a", {"a": {"columns": ["knn"]}, "b": {}}, "the baseline is measured in every column"),
        ("a", {"a": {}, "b": {"columns": "knn"}}, "row b: `columns` should be a list of names of columns, found 'knn'"),
    ],
)
def test_columns_of_a_row_that_make_no_sense_are_refused(
    tmp_path: Path, baseline: str, rows: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Study.read(study_file(tmp_path, rows=rows, baseline=baseline))
