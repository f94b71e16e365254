"""Label masks stored as colour images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.base import Colour
from datamodules.reading.errors import ImageError
from datamodules.reading.images import decode_image
from datamodules.reading.lossy_formats import refuse_lossy
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Files
from datamodules.reading.stretching import WHOLE_RANGE, Stretch


class ColourFiles(Files):
    """Image files with mask files whose colours give the class.

    Args:
        root: The folder that names are relative to.
        images: Image files.
        masks: The mask file of each image.
        colours: Colour in a mask → class, or `IGNORE`.
        stretch: Stretch of images of more than 8 bits.
    """

    def __init__(
        self,
        root: Path,
        images: Sequence[Path],
        masks: Sequence[Path],
        colours: Mapping[Colour, int],
        stretch: Stretch = WHOLE_RANGE,
    ) -> None:
        super().__init__(root, images, masks, labels={}, stretch=stretch)
        self.colours = colours

    def decoded_mask(self, index: int) -> tuple[NDArray[np.uint8], int]:
        assert self.masks is not None
        return decode_colour_mask(self.masks[index], self.colours)


def read_colour_mask(path: Path, colours: Mapping[Colour, int]) -> NDArray[np.uint8]:
    """Read a coloured mask and map it to classes.

    Args:
        path: File without lossy compression.
        colours: Colour in the file → class, or `IGNORE`.

    Returns:
        uint8 `[h, w]`, upright as the file's orientation says.

    Raises:
        ImageError: If the file is unreadable or lossy, or holds a colour that is not in `colours`.
    """
    return decode_colour_mask(path, colours)[0]


def decode_colour_mask(path: Path, colours: Mapping[Colour, int]) -> tuple[NDArray[np.uint8], int]:
    """`read_colour_mask`, and the orientation of the file."""
    refuse_lossy(path)
    decoded, orientation = decode_image(path)
    pixels = decoded.astype(np.int32)
    packed = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]  # [h, w]
    present, where = np.unique(packed, return_inverse=True)
    table = np.full(len(present), IGNORE, np.uint8)
    unknown = []
    for i, value in enumerate(present.tolist()):
        colour = (value >> 16, value >> 8 & 255, value & 255)
        if colour in colours:
            table[i] = colours[colour]
        else:
            unknown.append(colour)
    if unknown:
        more = f" and {len(unknown) - 3} more (was the mask once saved as JPEG?)" if len(unknown) > 3 else ""
        raise ImageError(
            f"{path}: expected only colours of classes.yaml, found {', '.join(map(str, unknown[:3]))}{more} as well; "
            "add them there, or correct the mask"
        )
    return table[where.reshape(packed.shape)], orientation
