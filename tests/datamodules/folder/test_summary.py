"""Summary of a folder before the first fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.folder import summary as module
from datamodules.folder.summary import summarise
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Files
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
    assert summarise("train", files, ["left", "wood"]).splitlines()[:8] == [
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
    assert summarise("train", Files(tmp_path, images), []).splitlines() == [
        "train: 5 images, of which 2 seen",
        "  width 8 to 12 (median 10), height 8 pixels",
        "  problems: none",
    ]


def test_images_that_open_and_do_not_decode_are_problems(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    images = [save(tmp_path / f"{i}.jpg", noise) for i in range(2)]
    content = images[1].read_bytes()
    images[1].write_bytes(content[: len(content) // 2])
    images.append(save(tmp_path / "2.tif", np.full((8, 8), np.nan, np.float32)))
    lines = summarise("train", Files(tmp_path, images), []).splitlines()
    assert lines[1:3] == ["  width 64, height 64 pixels", "  problems: 2"]
    assert "1.jpg: expected an image, found a file that can't be read (image file is truncated" in lines[3]
    assert "2.tif" in lines[4] and "NaN" in lines[4]
    masks = [save(tmp_path / "m" / f"{i}.png", np.zeros((64, 64), np.uint8)) for i in range(2)]
    assert "  problems: 1" in summarise("train", Files(tmp_path, images[:2], masks, {0: 0}), ["a"]).splitlines()


def test_sizes_are_those_of_upright_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(gradient(8, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert "  width 8, height 20 pixels" in summarise("train", Files(tmp_path, [tmp_path / "a.jpg"]), []).splitlines()
