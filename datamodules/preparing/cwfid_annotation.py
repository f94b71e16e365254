"""Convert CWFID's coloured annotation and published split to `images/{train,val}` and `masks/{train,val}`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.preparing.png import write_png
from datamodules.preparing.recipe import WORK
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from src.config.yaml_reader import load

COLOURS = {(0, 0, 0): 0, (0, 255, 0): 1, (255, 0, 0): 2}  # soil, crop, weed


def write_cwfid(archive: Path, root: Path) -> None:
    """Sort images and masks into the two splits.

    The split file lists image 28 twice; it is used for training only.

    Args:
        archive: Unused.
        root: Holds the unpacked repository as `.preparing/raw`, and is where `images` and `masks` go.

    Raises:
        ImageError: If an annotation has another colour, or a file of the split is missing.
    """
    raw = root / WORK / "raw"
    split = load(raw / "train_test_split.yaml")
    numbers = {"train": set(split["train"]), "val": set(split["test"]) - set(split["train"])}
    for name, members in numbers.items():
        for number in sorted(members):
            image = raw / "images" / f"{number:03d}_image.png"
            mask = _mask(raw / "annotations" / f"{number:03d}_annotation.png")
            for kind, pixels in (("images", read_image(image)), ("masks", mask)):
                target = root / kind / name / f"{number:03d}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                write_png(target, pixels)


def _mask(path: Path) -> np.ndarray:
    colours = read_image(path)
    mask = np.full(colours.shape[:2], 255, np.uint8)
    for colour, index in COLOURS.items():
        mask[(colours == colour).all(-1)] = index
    if (mask == 255).any():
        found = tuple(int(value) for value in colours[mask == 255][0])
        raise ImageError(f"{path}: expected the colours {', '.join(map(str, COLOURS))}, found {found}")
    return mask
