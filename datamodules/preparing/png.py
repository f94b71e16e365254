"""Write PNG files whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.core.atomic_files import writing


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a mask or an image; its folder has to be there.

    Args:
        path: Replaced, if it is there.
        pixels: `[h, w]` or `[h, w, 3]`.

    Raises:
        Unwritable: If the disk is full, or there is another obstacle.
    """
    part = path.with_name(f".{path.name}.part")  # hidden and without an image's suffix: no listing takes it for one
    with writing(path):
        Image.fromarray(pixels).save(part, "PNG")
        os.replace(part, path)
