"""What becomes of a cell whose process has ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from src.studies.plan.cells import Cell, Store
from src.studies.run.execution import Running


def test_a_folder_that_was_deleted_while_its_stage_ran_is_a_failure(tmp_path: Path) -> None:
    cell, store = Cell("pretrain", "GLARE", 0, {}), Store(tmp_path)
    process: Any = SimpleNamespace(returncode=1)
    assert not Running(cell, store.folder(cell), process, resumed=False).conclude()
    failure = store.failure(cell)
    assert failure is not None and failure["log"] == [f"{store.folder(cell)} was deleted while the stage ran"]
