"""Little shared memory means fewer loader processes and a message, not a bus error."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules import shared_memory
from datamodules.folder import FolderDataModule
from tests.datamodules.pictures import gradient, labelled_folder, save

SAMPLE = 2 * 3 * 32 * 32  # bytes of the two views of an image
BATCH = 4


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


@pytest.mark.parametrize(("batches", "workers"), [(0, 0), (2.9, 0), (3, 1), (8.9, 2), (9, 3), (1000, 3)])
def test_as_many_processes_as_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, batches: float, workers: int
) -> None:
    for i in range(BATCH):
        save(tmp_path / f"{i}.png", gradient(40, 40))
    with_free(monkeypatch, int(batches * BATCH * SAMPLE))
    data = FolderDataModule(tmp_path, size=32, batch_size=BATCH, num_workers=3)
    with caplog.at_level(logging.WARNING):
        loader = data.train_dataloader()
    assert loader.num_workers == workers and loader.persistent_workers == (workers > 0)
    assert ("docker run --shm-size" in caplog.text) == (workers < 3)
    if workers == 0:
        (crops,) = loader
        assert crops.indices.tolist() != []


def test_labelled_and_native_images_are_measured_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = labelled_folder(tmp_path, side=(24, 32))
    native = 24 * 32 * (3 + 1)
    for free, workers in ((3 * native - 1, 0), (3 * native, 1)):
        with_free(monkeypatch, free)
        data = FolderDataModule(root, task="segment", size=8, evaluation="native", num_workers=1)
        assert data.val_dataloader().num_workers == workers  # type: ignore[union-attr]


def test_nothing_is_measured_without_processes_or_where_there_is_plenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 2**40)
    assert shared_memory.fitting_workers(list, 4, 2) == 2
    with_free(monkeypatch, 0)
    assert shared_memory.fitting_workers(list, 4, 0) == 0
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "not there")  # as on macOS
    assert shared_memory.fitting_workers(list, 4, 2) == 2
