"""What is told of a folder before the first fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules import first_look as module
from datamodules.first_look import first_look
from datamodules.images import IGNORE
from datamodules.sources import Files
from tests.datamodules.pictures import gradient, save


def test_counts_sizes_shares_and_problems(tmp_path: Path) -> None:
    sides = ((8, 10), (8, 20), (8, 30))
    images = [save(tmp_path / f"{i}.png", gradient(*side)) for i, side in enumerate(sides)]
    masks = [save(tmp_path / "m" / f"{i}.png", np.full(side, i % 2, np.uint8)) for i, side in enumerate(sides)]
    ignored = np.zeros((8, 30), np.uint8)
    ignored[:, :10] = 9
    save(masks[2], ignored)
    images.append(tmp_path / "bad.png")
    images[-1].write_text("no image")
    masks.append(masks[0])
    files = Files(tmp_path, images, masks, {0: 0, 1: 1, 9: IGNORE})
    assert first_look("train", files, ["left", "wood"]).splitlines()[:8] == [
        "train: 4 images",
        "  width 10 to 30 (median 20), height 8 pixels",
        "  left  60.00%",  # 80 + 160 of 400 labelled pixels
        "  wood  40.00%",
        "  of labelled pixels; 16.67% are ignored",
        "  problems: 1",
        f"    {tmp_path}/bad.png: expected an image, found a file that can't be read (cannot identify image file); "
        "replace or remove the file",
    ]


def test_large_folders_are_sampled_and_masks_are_not_needed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "AT_MOST", 2)
    images = [save(tmp_path / f"{i}.png", gradient(8, 8 + i)) for i in range(5)]
    assert first_look("train", Files(tmp_path, images), []).splitlines() == [
        "train: 5 images, of which 2 seen",
        "  width 8 to 12 (median 10), height 8 pixels",
        "  problems: none",
    ]
