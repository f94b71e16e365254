"""Miniature copies of the data sets in their official layouts; each mask holds ids that are written there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.datamodules.pictures import gradient, save

SIDES = (40, 48)


def mask(ids: Sequence[int]) -> np.ndarray:
    """Vertical stripes of the ids, from left to right."""
    columns = np.array(ids, np.uint8)[np.arange(SIDES[1]) * len(ids) // SIDES[1]]
    return columns[None].repeat(SIDES[0], 0)


def image(number: int) -> np.ndarray:
    """A gradient whose blue says which image it is, as exactly as the file's format allows."""
    pixels = gradient(*SIDES)
    pixels[..., 2] = 10 * number
    return pixels


def ade20k(root: Path, train: int = 4, val: int = 2) -> Path:
    base = root / "ADEChallengeData2016"
    for split, short, count in (("training", "train", train), ("validation", "val", val)):
        for i in range(1, count + 1):
            name = f"ADE_{short}_{i:08d}"
            save(base / "images" / split / f"{name}.jpg", image(i))
            save(base / "annotations" / split / f"{name}.png", mask([0, 1, 2, 150]))
    return root


def pascal_context(root: Path, train: int = 4, val: int = 2) -> Path:
    base = root / "VOCdevkit" / "VOC2010"
    names = [f"2008_{i:06d}" for i in range(train + val)]
    for i, name in enumerate(names):
        save(base / "JPEGImages" / f"{name}.jpg", image(i))
        save(base / "SegmentationClassContext" / f"{name}.png", mask([0, 1, 2, 59]))
    save(base / "JPEGImages" / "2010_000099.jpg", image(9))  # of VOC, but of no split of Pascal Context
    lists = base / "ImageSets" / "SegmentationContext"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(names[:train]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[train:]) + "\n")
    return root


def cityscapes(root: Path, train: int = 4, val: int = 2, test: int = 1, train_ids: bool = False) -> Path:
    for split, count in (("train", train), ("val", val), ("test", test)):
        for i in range(count):
            city = ("aachen", "bochum")[i % 2]
            name = f"{city}_{i:06d}_000019"
            save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image(i))
            if split == "test":
                continue
            truth = root / "gtFine" / split / city
            save(truth / f"{name}_gtFine_labelIds.png", mask([0, 7, 8, 33]))
            save(truth / f"{name}_gtFine_instanceIds.png", mask([0, 7, 8, 33]).astype(np.uint16))
            Image.fromarray(image(i)).save(truth / f"{name}_gtFine_color.png")
            if train_ids:
                save(truth / f"{name}_gtFine_labelTrainIds.png", mask([255, 0, 1, 18]))
    return root


def loveda(root: Path, train: int = 4, val: int = 2, test: int = 1) -> Path:
    number = 0
    for split, count in (("Train", train), ("Val", val), ("Test", test)):
        for i in range(count):
            place = root / split / ("Urban", "Rural")[i % 2]
            save(place / "images_png" / f"{number}.png", image(number))
            if split != "Test":
                save(place / "masks_png" / f"{number}.png", mask([0, 1, 2, 7]))
            number += 1
    return root


def paired(root: Path, train: int = 4, val: int = 2) -> Path:
    """The layout of CamVid, CWFID and of a folder of one's own; ids 0 to 2 are classes of all of them."""
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            save(root / "images" / split / f"{i}.png", image(i))
            save(root / "masks" / split / f"{i}.png", mask([0, 1, 2]))
    return root


WRITERS = {
    "ade20k": ade20k,
    "pascal_context": pascal_context,
    "cityscapes": cityscapes,
    "loveda": loveda,
    "camvid": paired,
    "cwfid": paired,
    "folder": paired,
}
