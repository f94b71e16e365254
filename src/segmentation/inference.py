"""Inference on images of any size: whole or in windows, at several scales, mirrored.

Shapes: B images · C classes · H×W pixels of an image · h×w pixels of its prediction · h'×w' the head's own grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from src.core.errors import UserError
from src.core.resizing import resize_images, resize_scores, unit_range
from src.segmentation.sliding_window import Axis, axis, blend, centres, covering, matrices

Size = tuple[int, int]


class Network(NamedTuple):
    """Interface of models for inference.

    Attributes:
        scores: Images `[B, 3, H, W]`, RGB uint8 or float in [0, 1], sides multiples of `patch` → scores
            `[B, C, h', w']` that cover the images.
        probabilities: Scores `[B, C, …]` → class probabilities.
        patch: Patch size.
    """

    scores: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    patch: int


class Tile(NamedTuple):
    """Rectangle of one image's prediction: its first row and column, and its scores `[C, n, m]`."""

    top: int
    left: int
    scores: Tensor


class Inference(ABC):
    """Base class of inference. Probabilities of several passes (scales, mirrored or not) are averaged.

    Args:
        scales: Magnifications of the image, one pass each.
        flip: Also use the mirrored image.

    Raises:
        UserError: If a scale is not positive, or there is none.
    """

    def __init__(self, scales: Sequence[float] = (1.0,), flip: bool = False) -> None:
        if not scales or not all(scale > 0 for scale in scales):
            raise UserError(f"inference: expected scales above 0, at least one, found {list(scales)}")
        self.passes = [(scale, mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,))]

    @abstractmethod
    def tiles(
        self, network: Network, images: Tensor | list[Tensor], sizes: Sequence[Size], probabilities: bool = False
    ) -> Iterator[Iterator[Tile]]:
        """Yield tiles that cover each image's prediction, image by image, computed lazily.

        Args:
            network: The model.
            images: uint8 `[B, 3, H, W]`, or a list of `[3, H, W]`, each of its own size; padded to the patch size by
                repeating the last row and column.
            sizes: (h, w) of each prediction.
            probabilities: Return probabilities; otherwise a single pass returns raw scores.
        """

    @staticmethod
    def average(network: Network, passes: Iterator[Tensor], count: int, probabilities: bool) -> Tensor:
        """Average a tile `[C, n, m]` over `count` passes."""
        if count == 1 and not probabilities:
            return next(passes)
        total = network.probabilities(next(passes)[None])[0]
        for scores in passes:  # one at a time: a tile of 150 classes takes 150 MB
            total = total + network.probabilities(scores[None])[0]
        return total / count


class Whole(Inference):
    """Whole images; those of one size are processed as one batch.

    Args:
        scales: See `Inference`.
        flip: See `Inference`.
    """

    def tiles(
        self, network: Network, images: Tensor | list[Tensor], sizes: Sequence[Size], probabilities: bool = False
    ) -> Iterator[Iterator[Tile]]:
        batches = [images] if isinstance(images, Tensor) else [image[None] for image in images]
        wanted = iter(sizes)
        for batch in batches:
            grids = [self._grid(network, batch, scale, mirrored) for scale, mirrored in self.passes]
            for place in range(len(batch)):
                size = next(wanted)
                upsampled = (
                    _upsampled(grid[place], vertical, horizontal, size) for grid, vertical, horizontal in grids
                )
                yield iter([Tile(0, 0, self.average(network, upsampled, len(grids), probabilities))])

    @staticmethod
    def _grid(network: Network, images: Tensor, scale: float, mirrored: bool) -> tuple[Tensor, Axis, Axis]:
        """Scores `[B, C, h', w']` of images that are one window each, and the window's position."""
        vertical, horizontal = (
            axis(side, side * scale, side * scale, scale, network.patch) for side in images.shape[-2:]
        )
        return seen(network, images, vertical, horizontal, mirrored), vertical, horizontal


class SlidingWindow(Inference):
    """Sliding windows, whose scores are blended where they overlap.

    Memory is independent of the image's height, and grows with its width only by the scores of a row of windows on the
    head's own grid: full-resolution scores exist for one tile, as large as a window, at a time.

    Args:
        crop: Side, or (height, width), of a window at the network's input. A smaller image is one window.
        stride: Distance between windows, likewise; most recipes use two thirds of the window.
        scales: See `Inference`. At scale 2 a window shows half as much ground.
        flip: See `Inference`.
        batch: Windows per batch of the network.

    Raises:
        UserError: If windows leave gaps, or a number is not positive.
    """

    def __init__(
        self,
        crop: int | tuple[int, int],
        stride: int | tuple[int, int],
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        batch: int = 8,
    ) -> None:
        super().__init__(scales, flip)
        self.crop, self.stride = ((side, side) if isinstance(side, int) else tuple(side) for side in (crop, stride))
        self.batch = batch
        if min(self.stride) < 1 or batch < 1 or any(s > c for s, c in zip(self.stride, self.crop, strict=True)):
            raise UserError(
                f"SlidingWindow: expected 1 ≤ stride ≤ crop and batch ≥ 1, found crop {crop}, stride {stride}, batch "
                f"{batch}"
            )

    def tiles(
        self, network: Network, images: Tensor | list[Tensor], sizes: Sequence[Size], probabilities: bool = False
    ) -> Iterator[Iterator[Tile]]:
        for image, size in zip(images, sizes, strict=True):
            yield self._tiles(network, image, size, probabilities)

    def _tiles(self, network: Network, image: Tensor, size: Size, probabilities: bool) -> Iterator[Tile]:
        passes = [_WindowRows(self, network, image, scale, mirrored) for scale, mirrored in self.passes]
        for top in range(0, size[0], self.crop[0]):
            rows = centres(top, min(top + self.crop[0], size[0]), size[0], image.shape[-2])
            for left in range(0, size[1], self.crop[1]):
                columns = centres(left, min(left + self.crop[1], size[1]), size[1], image.shape[-1])
                scores = (one.scores(rows, columns) for one in passes)
                yield Tile(top, left, self.average(network, scores, len(passes), probabilities))


class _WindowRows:
    """One pass over an image from top to bottom; keeps the scores of rows of windows as long as a tile needs them."""

    def __init__(self, sliding: SlidingWindow, network: Network, image: Tensor, scale: float, mirrored: bool) -> None:
        self.network, self.image, self.mirrored, self.batch = network, image, mirrored, sliding.batch
        self.vertical, self.horizontal = (
            axis(side, crop, stride, scale, network.patch)
            for side, crop, stride in zip(image.shape[-2:], sliding.crop, sliding.stride, strict=True)
        )
        self.rows: dict[int, Tensor] = {}  # row of windows → scores [J, C, r, s]

    def scores(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Scores `[C, n, m]` at the pixels whose centres are given; tiles must come row by row."""
        down, across = covering(self.vertical, rows), covering(self.horizontal, columns)
        self.rows = {row: scores for row, scores in self.rows.items() if row >= down.start}
        for row in down:
            if row not in self.rows:
                self.rows[row] = self._seen(self.vertical.starts[row])
        windows = torch.stack([self.rows[row][across.start : across.stop] for row in down])  # [I, J, C, r, s]
        return blend(
            windows,
            matrices(self.vertical, down, rows, windows.shape[-2]),
            matrices(self.horizontal, across, columns, windows.shape[-1]),
        )

    def _seen(self, top: int) -> Tensor:
        band = self.image[:, top : top + self.vertical.length]
        scores = []
        for first in range(0, len(self.horizontal.starts), self.batch):
            lefts = self.horizontal.starts[first : first + self.batch]
            windows = torch.stack([band[..., left : left + self.horizontal.length] for left in lefts])
            scores.append(seen(self.network, windows, self.vertical, self.horizontal, self.mirrored))
        return torch.cat(scores)


def seen(network: Network, images: Tensor, vertical: Axis, horizontal: Axis, mirrored: bool) -> Tensor:
    """Scores `[B, C, h', w']`, float32 at least, of images after resizing, padding and optional mirroring."""
    images = padded(resize_images(images, (vertical.resized, horizontal.resized)), network.patch)
    scores = network.scores(images.flip(-1)).flip(-1) if mirrored else network.scores(images)
    return scores.float() if scores.dtype.itemsize < 4 else scores


def padded(images: Tensor, patch: int) -> Tensor:
    """RGB `[B, 3, H, W]`, extended below and to the right by its last row and column to multiples of `patch`."""
    below, right = -images.shape[-2] % patch, -images.shape[-1] % patch
    return F.pad(unit_range(images), (0, right, 0, below), mode="replicate") if below or right else images


def _upsampled(grid: Tensor, vertical: Axis, horizontal: Axis, size: Size) -> Tensor:
    """Scores `[C, h, w]` of one image that is one window, from `[C, h', w']`."""
    if vertical.resized == vertical.padded and horizontal.resized == horizontal.padded:
        return resize_scores(grid[None], size)[0]
    rows, columns = (
        matrices(windows, range(1), centres(0, pixels, pixels, windows.length), cells)
        for windows, pixels, cells in zip((vertical, horizontal), size, grid.shape[-2:], strict=True)
    )
    return blend(grid[None, None], rows, columns)
