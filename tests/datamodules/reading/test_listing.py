"""Pictures that a run made are no images to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.reading.errors import ImageError
from datamodules.reading.listing import list_images
from tests.datamodules.pictures import save

MARKS = [["adapter.safetensors"], ["adapt.yaml"], ["cell.json"], ["evaluation.json"], ["table.json", "report.html"]]


def run_folder(path: Path, files: list[str]) -> Path:
    save(path / "pictures" / "features.png", np.zeros((8, 8, 3), np.uint8))
    for name in files:
        (path / name).write_bytes(b"")
    return path


@pytest.mark.parametrize("files", MARKS, ids=lambda files: files[0])
def test_the_folder_of_a_run_is_refused(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected a folder of images, found the folder of a run"):
        list_images(run_folder(tmp_path / "run", files))


@pytest.mark.parametrize("files", MARKS, ids=lambda files: files[0])
def test_a_run_among_the_images_is_left_out_and_said(files: list[str], tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    run_folder(tmp_path / "runs" / "mine", files)
    with pytest.warns(UserWarning, match="run folders are skipped.* found 1, such as runs/mine"):
        assert list_images(tmp_path) == [tmp_path / "a.png"]


def test_a_report_or_a_table_alone_are_no_mark(tmp_path: Path) -> None:
    for name in ("report.html", "table.json"):
        assert len(list_images(run_folder(tmp_path / name.split(".")[0], [name]))) == 1
