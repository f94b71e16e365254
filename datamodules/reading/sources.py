"""Sources of images and masks: files, memory, or a subset of another source."""

from __future__ import annotations

import bisect
import logging
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from datamodules.reading.decoders import DECODERS
from datamodules.reading.errors import ImageError
from datamodules.reading.images import decode_image
from datamodules.reading.masks import IGNORE, decode_mask
from datamodules.reading.path_list import Listing
from datamodules.reading.reduction import Reduction, shrink
from datamodules.reading.stretching import WHOLE_RANGE, Stretch
from src.core.file_contents import paths_of
from src.core.printable import printable

logger = logging.getLogger(__name__)

CACHE_BYTES = 2**30  # larger sets are decoded at each use instead


class Source(Protocol):
    """A list of images, with masks where there are any."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Path of the image relative to the data set, or a generated name: unique, and the same in every run."""
        ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB `[h, w, 3]`."""
        ...

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """RGB `[h, w, 3]` and classes `[h, w]`; `IGNORE` where unknown, everywhere if there is no mask."""
        ...


class Files:
    """Image files, with or without mask files.

    Args:
        root: The folder that names are relative to.
        images: Image files.
        masks: The mask file of each image; None without labels.
        labels: id in a mask file → class, or `IGNORE`.
        stretch: Stretch of images of more than 8 bits.
        reduction: Reduced reading of images without their masks; None for full size.
    """

    def __init__(
        self,
        root: Path,
        images: Sequence[Path],
        masks: Sequence[Path] | None = None,
        labels: Mapping[int, int] | None = None,
        stretch: Stretch = WHOLE_RANGE,
        reduction: Reduction | None = None,
    ) -> None:
        assert masks is None or (len(masks) == len(images) and labels is not None)
        self.root = root
        self.images = Listing(root, images)
        self.masks = None if masks is None else Listing(root, masks)
        self.labels = labels or {}
        self.stretch = stretch
        self.reduction = reduction
        self._turned_alone = torch.zeros(1, dtype=torch.bool).share_memory_()  # one warning over all workers

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images[index].relative_to(self.root).as_posix()

    def image(self, index: int) -> NDArray[np.uint8]:
        if self.reduction is not None:
            return self.reduction.read(self.images[index], self.stretch)
        return decode_image(self.images[index], self.stretch)[0]

    def paths(self, index: int) -> tuple[Path, ...]:
        """The image, and its mask if there is one, for `src.core.file_contents`."""
        return (self.images[index],) if self.masks is None else (self.images[index], self.masks[index])

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and mask, each upright.

        Raises:
            ImageError: If a file is unusable, or the mask differs from the image in size.
        """
        image, turned = decode_image(self.images[index], self.stretch)
        if self.masks is None:
            return image, np.full(image.shape[:2], IGNORE, np.uint8)
        mask, mask_turned = self.decoded_mask(index)
        if image.shape[:2] != mask.shape:
            raise ImageError(self._other_size(index, image.shape[:2], mask.shape, turned, mask_turned))
        if turned != 1 and mask_turned == 1 and not self._turned_alone:
            self._turned_alone.fill_(True)
            warnings.warn(
                printable(
                    f"{self.root}: photographs have an EXIF orientation and their masks have none; masks are assumed "
                    "to match the photographs as displayed. If they match the pixels as stored, remove the "
                    "orientation from the photographs (exiftool -Orientation= FILE)"
                ),
                stacklevel=1,  # attributed to this line, so that it is shown once for all splits of a folder
            )
        return image, mask

    def decoded_mask(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """The mask of an image, as upright classes, and the orientation of its file.

        Raises:
            ImageError: If it is unusable.
        """
        assert self.masks is not None
        return decode_mask(self.masks[index], self.labels)

    def _other_size(
        self, index: int, image: tuple[int, ...], mask: tuple[int, ...], turned: int, mask_turned: int
    ) -> str:
        assert self.masks is not None
        found = (
            f"{self.masks[index]}: expected a mask of its image's size, {image[1]}×{image[0]} "
            f"({self.images[index]}), found {mask[1]}×{mask[0]}"
        )
        if image == mask[::-1] and (turned >= 5) != (mask_turned >= 5):
            one, other = ("image", "mask") if turned >= 5 else ("mask", "image")
            return (
                f"{found}; the {one} is turned by its EXIF orientation ({max(turned, mask_turned)}), the {other} is "
                f"not: they match as stored, so remove the orientation from the {one} (exiftool -Orientation= FILE)"
            )
        return f"{found}; make both the same size (resize masks without interpolation)"


class Subset:
    """Some of the samples of a source.

    Args:
        source: The full source.
        indices: The samples to keep, in order.
    """

    def __init__(self, source: Source, indices: Sequence[int] | NDArray[np.int64]) -> None:
        self.source = source
        # 8 bytes each, without reference counts that workers would write to
        self.indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(self.indices[index])

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.source.image(self.indices[index])

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.source.pair(self.indices[index])

    def paths(self, index: int) -> tuple[Path, ...]:
        return paths_of(self.source, self.indices[index])


class Concat:
    """Several sources, one after the other.

    Args:
        sources: The parts. The first keeps its names; those of the others are prefixed by their position, as in
            `1:a.jpg`.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.ends = np.cumsum([len(source) for source in sources]).tolist()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def name(self, index: int) -> str:
        place, inside = self._place(index)
        name = self.sources[place].name(inside)
        return name if place == 0 else f"{place}:{name}"

    def image(self, index: int) -> NDArray[np.uint8]:
        place, inside = self._place(index)
        return self.sources[place].image(inside)

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        place, inside = self._place(index)
        return self.sources[place].pair(inside)

    def paths(self, index: int) -> tuple[Path, ...]:
        place, inside = self._place(index)
        return paths_of(self.sources[place], inside)

    def _place(self, index: int) -> tuple[int, int]:
        """The source, and the index in it."""
        place = bisect.bisect_right(self.ends, index)
        return place, index - (self.ends[place - 1] if place else 0)


class Cached:
    """Source that is decoded once, before the loader's workers start, and shared with them.

    Args:
        source: The source to read.
        side: Sufficient short side (`sufficient_side`), pixels: images are kept no larger, and without their masks;
            None keeps both as they are.
    """

    def __init__(self, source: Source, side: int | None = None) -> None:
        self.source = source
        self.side = side
        with ThreadPoolExecutor(DECODERS) as threads:  # the decoders release the interpreter lock
            samples = threads.map(self._read, range(len(source)))
            self.samples = list(tqdm(samples, "decoding", len(source), unit="image", delay=5, leave=False))

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.samples[index][0]

    def pair(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image, mask = self.samples[index]
        assert mask is not None
        return image, mask

    def paths(self, index: int) -> tuple[Path, ...]:
        return paths_of(self.source, index)

    def _read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        if self.side is None:
            return self.source.pair(index)
        return shrink(self.source.image(index), self.side), None


def cache(source: Source, side: int | None = None) -> Source:
    """Keep a source in memory if, judged by a sample of its images, it fits in `CACHE_BYTES`; else return it unchanged.

    Args:
        source: The source to read.
        side: Sufficient short side, pixels: masks are then left out; None keeps images and masks as they are.
    """
    images = [source.image(i) for i in range(0, len(source), max(1, len(source) // 8))]
    if side is not None:
        images = [shrink(image, side) for image in images]
    expected = float(np.mean([image.size for image in images])) * len(source) * (4 / 3 if side is None else 1)
    if expected > CACHE_BYTES:
        logger.info(
            "%d images would take %.1f GiB of memory, so they are decoded at each use; copies: FOLDER keeps "
            "downscaled copies on disk, scaled_decoding reads large JPEGs faster",
            len(source),
            expected / 2**30,
        )
        return source
    return Cached(source, side)
