"""Images that `max_images` keeps from a pre-training, which is then watched on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderDataModule


def module(folder: Path, max_images: int | None, on_error: str = "raise") -> FolderDataModule:
    return FolderDataModule(folder, size=28, num_workers=0, cache=False, max_images=max_images, on_error=on_error)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value in range(10):
        Image.fromarray(np.full((40, 40, 3), 20 * value, np.uint8)).save(tmp_path / f"{value}.png")
    return tmp_path


@pytest.mark.parametrize("kept", [1, 5, 8])
def test_held_out_images_are_those_that_training_never_sees(folder: Path, kept: int) -> None:
    data = module(folder, kept)
    held, seen = data.held_out_source(), data.source("train")
    assert held is not None
    names = [{source.name(index) for index in range(len(source))} for source in (held, seen)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 10 and len(seen) == kept
    sample = data.monitor_sample(16, 0).crops
    assert len(sample.indices) == 10 - kept
    bright = {round(float(value) / 20) for value in held.image(0).reshape(-1, 3).mean(axis=0)}
    assert bright == {int(held.name(0).removesuffix(".png"))}


@pytest.mark.parametrize("kept", [None, 9, 10, 20])
def test_fewer_than_two_are_none(folder: Path, kept: int | None) -> None:
    data = module(folder, kept)
    assert data.held_out_source() is None
    assert len(data.monitor_sample(16, 0).crops.indices) == min(10, kept or 10)


def test_bad_files_among_them_are_skipped(folder: Path) -> None:
    names = module(folder, 5).held_out_source()
    assert names is not None
    (folder / names.name(0)).write_bytes(b"no image")
    left = module(folder, 5, "skip").held_out_source()
    assert left is not None and len(left) == 4
