"""Small image files whose pixels are known, for the tests of the data modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    """Red grows with y, green with x, by the same 0–255 over the image; blue is 128."""
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    x = np.linspace(0, 255, width)[None].repeat(height, 0)
    return np.stack([y, x, np.full_like(x, 128)], -1).round().astype(np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    """Write an array to a file, without loss where the suffix allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)
    return path


def labelled_folder(root: Path, train: int = 10, val: int = 3, side: tuple[int, int] = (24, 32)) -> Path:
    """A data set in `images/{train,val}` and `masks/{train,val}` whose masks say 0, 1, 2 from left to right."""
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            pixels = gradient(*side)
            pixels[..., 2] = i  # which image it is can be read from its pixels
            save(root / "images" / split / f"{i:03d}.png", pixels)
            thirds = (np.arange(side[1]) * 3 // side[1]).astype(np.uint8)
            save(root / "masks" / split / f"{i:03d}.png", thirds[None].repeat(side[0], 0))
    return root
