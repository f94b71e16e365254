"""Label masks stored as colour images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class _EightBits(Stretch):
    """Refuses deeper colours, which a stretch would change by the range of each mask."""

    mask: Path = Path()

    def __call__(self, pixels: NDArray[Any], nodata: float | None = None) -> NDArray[np.uint8]:
        raise ImageError(
            f"{self.mask}: expected colours of 8 bits a channel, found {pixels.dtype}; convert the mask to 8 bits"
        )


def decode_colour_mask(path: Path, colours: Mapping[Colour, int]) -> tuple[NDArray[np.uint8], int]:
    """Read a coloured mask and map it to classes.

    Args:
        path: File without lossy compression, of 8 bits a channel.
        colours: Colour in the file → class, or `IGNORE`.

    Returns:
        uint8 `[h, w]`, upright as the file's orientation says, and that orientation.

    Raises:
        ImageError: If the file is unreadable, lossy or deeper, or holds a colour that is not in `colours`.
    """
    refuse_lossy(path)
    decoded, orientation = decode_image(path, _EightBits(mask=path))
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
