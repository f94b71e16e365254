"""Images read no larger than views need them: large JPEGs decoded at a fraction, shrunk copies kept on a disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.reading.images import read_image
from datamodules.reading.stretching import Stretch
from src.core.atomic_files import make_folder, replacing

MARGIN = 2.5  # short side of a reduced image over the side of a view

_VERSION = 1  # of the copies; raise it when the same file would give another copy


@dataclass(frozen=True)
class Reduction:
    """Reading of images for views of one side.

    With a short side of `MARGIN` times the view, the smallest global crop (a quarter of the area at the flattest
    aspect: 0.43 of a square's side) still has more pixels than the view, so no global view gets coarser than one from
    the original.

    Attributes:
        side: Short side that suffices, pixels.
        scaled: Decode a JPEG at a half, a quarter or an eighth of its size where that is still large enough. Each pixel
            is then the mean that the coefficients of its block give, which differs a little from a resized image.
        copies: Folder of shrunk copies, uint8 arrays that are mapped into memory: ranks, workers and runs share them.
            One is made where it is missing or its file has changed. None keeps none.
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


def shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize an image so that its short side is `side` pixels, bicubic with antialiasing; smaller ones stay."""
    height, width = image.shape[:2]
    if min(height, width) <= side:
        return image
    scale = side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
