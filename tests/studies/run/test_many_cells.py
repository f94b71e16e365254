"""A study of ten thousand finished cells is planned in seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from src.commands.study import plan
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from tests.studies.cells_on_disk import finish, study_file

ROWS, SEEDS = 40, 100  # 4,000 pre-trainings and 6,000 evaluations
LIMIT = 10.0  # seconds of this process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_cells(tmp_path: Path) -> None:
    rows = {
        f"r{index}": {"set": {"x": index}, **({"pretrain": None} if index >= ROWS else {})}
        for index in range(ROWS + 20)
    }
    column = {"label": "Linear", "data": "scenes", "config": str(tmp_path / "segment.yaml")}
    path = study_file(tmp_path, rows=rows, seeds=list(range(SEEDS)), columns={"linear": column})
    study, store = Study.read(path), Store(tmp_path / "cells")
    assert len(study.cells) == 10_000
    like: dict[tuple[str, bool], Path] = {}
    for cell in study.cells.values():
        kind = (cell.stage, cell.needs is not None)
        if kind not in like:
            finish(cell, store)
            like[kind] = store.folder(cell)
            (like[kind] / "samples.npz").unlink(missing_ok=True)
            continue
        store.folder(cell).mkdir()
        for file in like[kind].glob("*.*"):  # the numbers of its like: what counts here is how many files there are
            os.link(file, store.folder(cell) / file.name)

    began = time.process_time()
    assert plan(store, list(Study.read(path).cells.values())).startswith("[1/10000]")
    planned = time.process_time() - began
    assert planned < LIMIT
