"""Read images no larger than views need: decode large JPEGs at a fraction, keep downscaled copies on disk."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.reading.images import read_image
from datamodules.reading.stretching import Stretch
from src.core.atomic_files import make_folder, replacing

_VERSION = 1  # version of the copies; increase it when the same file would give another copy


@dataclass(frozen=True)
class Reduction:
    """Reading of images for views of one side.

    Attributes:
        side: Sufficient short side, pixels (`sufficient_side`).
        scaled: Decode a JPEG at a half, a quarter or an eighth of its size where that is still large enough. Each pixel
            is then computed from its block's coefficients, and differs slightly from a resized image.
        copies: Folder of downscaled copies, memory-mapped uint8 arrays shared by ranks, workers and runs. A copy is
            made if it is missing or its file has changed. None keeps no copies.
    """

    side: int
    scaled: bool = False
    copies: Path | None = None

    def read(self, path: Path, stretch: Stretch) -> NDArray[np.uint8]:
        """RGB `[h, w, 3]` of an image file; see `read_image`."""
        if self.copies is None:
            return read_image(path, stretch, self.side if self.scaled else None)
        place = self._place(self.copies, path, stretch)
        try:
            return np.asarray(np.load(place, mmap_mode="r"))
        except (FileNotFoundError, ValueError, EOFError):  # missing, or cut short by a full disk
            pass
        image = shrink(read_image(path, stretch, self.side if self.scaled else None), self.side)
        make_folder(place.parent)
        with replacing(place) as part, part.open("wb") as file:
            np.save(file, image)
        return image

    def _place(self, folder: Path, path: Path, stretch: Stretch) -> Path:
        state = path.stat()
        whole = (_VERSION, str(path.resolve()), state.st_size, state.st_mtime_ns, str(stretch), self.side, self.scaled)
        key = hashlib.blake2b(repr(whole).encode(), digest_size=16).hexdigest()
        return folder / key[:2] / f"{key}.npy"


def sufficient_side(view: int, share: float) -> int:
    """Short side of an image, in pixels, from which every global view is as fine as from the original.

    The smallest crop, at the flattest aspect of 4/3, has √(3/4 · share) of a square's side: with 1.25 / √share times
    the view's side (2.5 times for a quarter of the area) it still has more pixels than the view.

    Args:
        view: Side of the views, pixels.
        share: Least share of the image's area that a view covers.
    """
    return round(1.25 * view / math.sqrt(share))


def shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize an image so that its short side is `side` pixels, bicubic with antialiasing; smaller ones stay."""
    height, width = image.shape[:2]
    if min(height, width) <= side:
        return image
    scale = side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
