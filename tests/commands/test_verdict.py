"""The verdict command prints what the study found, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.commands.verdict import main
from src.core.json_files import write_json
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.table import as_json
from src.studies.results.results import Results
from tests.studies.cells_on_disk import fill, study_file


@pytest.fixture(params=[8, -8])
def gain(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def folder(tmp_path: Path, gain: int) -> Path:
    study, store = Study.read(study_file(tmp_path)), Store(tmp_path / "runs" / "cells")
    fill(study, store, gain=gain)
    (tmp_path / "runs" / "small").mkdir()
    write_json(tmp_path / "runs" / "small" / "table.json", as_json(Results(study, store)))
    return tmp_path / "runs" / "small"


def test_it_says_whether_it_helped_which_classes_moved_and_what_it_cost(
    folder: Path, gain: int, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder)])
    text = capsys.readouterr().out
    assert f"GLARE (Linear) {'helped: +' if gain > 0 else 'harmed: −'}" in text
    assert "3 of 3 classes changed significantly: " in text
    assert "60 s of pre-training a seed" in text
    main([str(folder), "--json"])
    first = json.loads(capsys.readouterr().out)[0]
    assert first["word"] == ("helped" if gain > 0 else "harmed")
    assert sorted(first["moved"]) == ["road", "sky", "tree"]
