"""Convert CWFID's coloured annotation and published split to `images/{train,val}` and `masks/{train,val}`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.preparing.png import write_png
from datamodules.preparing.recipe import WORK
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from src.config.yaml_reader import load
from src.core.errors import UserError

COLOURS = {(0, 0, 0): 0, (0, 255, 0): 1, (255, 0, 0): 2}  # soil, crop, weed


def write_cwfid(archive: Path, root: Path) -> None:
    """Sort images and masks into the two splits.

    The split file lists image 28 twice; it is used for training only.

    Args:
        archive: Unused.
        root: Holds the unpacked repository as `.preparing/raw`, and is where `images` and `masks` go.

    Raises:
        ImageError: If an annotation has another colour, a file of the split is missing, or the split is not one.
    """
    raw = root / WORK / "raw"
    train, test = _split(raw / "train_test_split.yaml")
    numbers = {"train": train, "val": test - train}
    for name, members in numbers.items():
        for number in sorted(members):
            image = raw / "images" / f"{number:03d}_image.png"
            mask = _mask(raw / "annotations" / f"{number:03d}_annotation.png")
            for kind, pixels in (("images", read_image(image)), ("masks", mask)):
                target = root / kind / name / f"{number:03d}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                write_png(target, pixels)


def _split(path: Path) -> tuple[set[int], set[int]]:
    """Numbers of the training and of the test images."""
    try:
        content = load(path)
        parts = content["train"], content["test"]
    except (UserError, KeyError, TypeError) as error:
        raise ImageError(f"{path}: expected the lists train and test, found {error}") from error
    for part in parts:
        if not isinstance(part, list) or not all(type(number) is int and number >= 0 for number in part):
            raise ImageError(f"{path}: expected lists of image numbers, found {part!r:.60}")
    return set(parts[0]), set(parts[1])


def _mask(path: Path) -> np.ndarray:
    colours = read_image(path)
    mask = np.full(colours.shape[:2], 255, np.uint8)
    for colour, index in COLOURS.items():
        mask[(colours == colour).all(-1)] = index
    if (mask == 255).any():
        found = tuple(int(value) for value in colours[mask == 255][0])
        raise ImageError(f"{path}: expected the colours {', '.join(map(str, COLOURS))}, found {found}")
    return mask
