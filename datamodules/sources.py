"""Where images and masks come from: files, memory, or a part of another source."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from datamodules.images import IGNORE, ImageError, read_image, read_mask

logger = logging.getLogger(__name__)

CACHE_BYTES = 2**30  # a set that would take more memory than this is decoded at each use instead
CACHE_MARGIN = 2.5  # short side of a cached image over the side of a view; see `Cached`


class Source(Protocol):
    """A list of images, with masks where there are any."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Path of the image relative to the data set, or a made-up name: unique, and the same in every run."""
        ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB `[h, w, 3]`."""
        ...

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Classes `[h, w]`, of the image's size; `IGNORE` where unknown, everywhere if there is no mask."""
        ...


class Files:
    """Image files, with mask files beside them or without.

    Args:
        root: The folder that names are relative to.
        images: Image files.
        masks: The mask file of each image; None where nothing is labelled.
        labels: id in a mask file → class, or `IGNORE`.
    """

    def __init__(
        self,
        root: Path,
        images: Sequence[Path],
        masks: Sequence[Path] | None = None,
        labels: Mapping[int, int] | None = None,
    ) -> None:
        assert masks is None or (len(masks) == len(images) and labels is not None)
        self.root = root
        self.images = images
        self.masks = masks
        self.labels = labels or {}

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images[index].relative_to(self.root).as_posix()

    def image(self, index: int) -> NDArray[np.uint8]:
        return read_image(self.images[index])

    def mask(self, index: int) -> NDArray[np.uint8]:
        if self.masks is None:
            return np.full(self.image(index).shape[:2], IGNORE, np.uint8)
        return read_mask(self.masks[index], self.labels)

    def describe(self, index: int) -> str:
        """The files of a sample, for messages."""
        return str(self.images[index]) if self.masks is None else f"{self.masks[index]} of {self.images[index]}"


class Part:
    """Some of the samples of a source.

    Args:
        source: The whole.
        indices: Which samples, in which order.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = [int(i) for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(self.indices[index])

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.source.image(self.indices[index])

    def mask(self, index: int) -> NDArray[np.uint8]:
        return self.source.mask(self.indices[index])


class Cached:
    """A source whose images are decoded once, before the loader's workers start, and shared with them.

    Images for views of side `view` are kept no larger than they need to be: with a short side of `CACHE_MARGIN` times
    the view, the smallest global crop (a quarter of the area at the flattest aspect: 0.43 of a square's side)
    still has more pixels than the view, so no crop gets coarser than one from the original.

    Args:
        source: What to read.
        view: Side of the views that will be cut, pixels; None keeps images as they are.
        masks: Keep masks as well.
    """

    def __init__(self, source: Source, view: int | None = None, masks: bool = False) -> None:
        self.source = source
        self.side = None if view is None else round(view * CACHE_MARGIN)
        with ThreadPoolExecutor() as threads:  # the decoders release the interpreter lock
            progress = {"total": len(source), "desc": "decoding", "unit": "image", "delay": 5, "leave": False}
            self.images = list(tqdm(threads.map(self._shrunk, range(len(source))), **progress))
            self.masks = list(tqdm(threads.map(source.mask, range(len(source))), **progress)) if masks else None

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.images[index]

    def mask(self, index: int) -> NDArray[np.uint8]:
        return self.source.mask(index) if self.masks is None else self.masks[index]

    def _shrunk(self, index: int) -> NDArray[np.uint8]:
        return shrink(self.source.image(index), self.side)


def shrink(image: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """Resize an image so that its short side is `side` pixels, bicubic with antialiasing; smaller ones stay."""
    height, width = image.shape[:2]
    if side is None or min(height, width) <= side:
        return image
    scale = side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def cache(source: Source, view: int | None = None, masks: bool = False) -> Source:
    """Keep a source in memory if the first images suggest that it fits in `CACHE_BYTES`; else leave it as it is.

    Args:
        source: What to read.
        view: Side of the views that will be cut, pixels; None keeps images as they are.
        masks: Keep masks as well.
    """
    first = range(0, len(source), max(1, len(source) // 8))
    side = None if view is None else round(view * CACHE_MARGIN)
    pixels = float(np.mean([shrink(source.image(i), side).size / 3 for i in first]))
    expected = pixels * (4 if masks else 3) * len(source)
    if expected > CACHE_BYTES:
        logger.info("%d images would take %.1f GiB of memory: decoding them at each use", len(source), expected / 2**30)
        return source
    return Cached(source, view, masks)


def check_pair(source: Source, index: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Refuse a mask whose size is not its image's.

    Raises:
        ImageError: With both sizes and the sample's name.
    """
    if image.shape[:2] != mask.shape[:2]:
        raise ImageError(
            f"{source.name(index)}: expected a mask of its image's size, {image.shape[1]}×{image.shape[0]}, found "
            f"{mask.shape[1]}×{mask.shape[0]}; make both the same size (resize masks without interpolation)"
        )
