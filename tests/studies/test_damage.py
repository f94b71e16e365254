"""Every file of a study, damaged in every way: named, ignored, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from src.core.errors import one_message
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.report.files import write_results
from src.studies.results.results import Results
from src.studies.results.verdicts import judged
from src.studies.run.estimate import Measured, running
from tests.studies.cells_on_disk import fill, study_file

FILES = {
    "pretrain": (
        "metrics.json",
        "provenance.json",
        "metrics.csv",
        "guards.json",
        "adapter.safetensors",
        "progress.json",
        "explanations/explanations.json",
        "explanations/regions-1.png",
    ),
    "evaluate": ("metrics.json", "provenance.json", "cell.json", "confusion.npz", "samples.npz", "failure.json"),
}
FAULTS = ("empty", "cut off", "binary", "list")


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    fill(Study.read(study_file(folder / "study")), Store(folder / "cells"))
    return folder


def damage(path: Path, fault: str) -> None:
    """Damage a file, which is made where a finished cell has none."""
    content = path.read_bytes() if path.is_file() else json.dumps({"stopped": None, "warnings": []}).encode()
    path.write_bytes({"empty": b"", "cut off": content[: len(content) // 2], "binary": bytes(range(255, 0, -1)) * 9,
                      "list": b"[1, 2]"}[fault])  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, names in FILES.items() for name in names])
def test_a_damaged_file_is_named_and_the_tables_are_written_without_it(
    finished_study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], stage: str, name: str, fault: str
) -> None:
    shutil.copytree(finished_study / "cells", tmp_path / "cells")
    study, store = Study.read(finished_study / "study" / "small.yaml"), Store(tmp_path / "cells")
    cell = next(cell for cell in study.cells.values() if cell.stage == stage and (stage == "pretrain" or cell.needs))
    if name == "failure.json":
        (store.folder(cell) / "metrics.json").unlink()
    damage(store.folder(cell) / name, fault)
    with one_message() as outcome:
        Measured.of(store, study.cells.values())
        running(store.folder(cell), 0.0, None)
        write_results(Results(study, store), tmp_path / "small")
        judged(tmp_path / "small")
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert outcome.code == 0, told
    partly_readable = name == "metrics.csv" and fault in ("cut off", "empty", "list")  # whole rows count
    assert name.rpartition("/")[2] in told or partly_readable
    assert store.done(cell) == (name not in ("metrics.json", "failure.json"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_table_gives_no_verdict_and_says_why(
    finished_study: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study.read(finished_study / "study" / "small.yaml")
    write_results(Results(study, Store(finished_study / "cells")), tmp_path / "small")
    damage(tmp_path / "small" / "table.json", fault)
    with one_message() as outcome:
        judged(tmp_path / "small")
    told = capsys.readouterr().err
    assert outcome.code == 1 and "table.json" in told and "Traceback" not in told
