"""Multi-view cropping that keeps its geometry (docs/method.md, section 2).

Shapes: images are `[height, width, 3]`, uint8, RGB; boxes are (y0, x0, y1, x1).
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise importing it looks for updates on the network
import albumentations

from src.core.errors import UserError

Box = tuple[float, float, float, float]

GLOBAL_AREA = (0.25, 1.0)
LOCAL_AREA = (0.05, 0.25)
ASPECT = (3 / 4, 4 / 3)  # width over height
MIN_OVERLAP = 0.25  # of the smaller of the two global crops
DINO_BLUR_SOLARIZE = ((1.0, 0.0), (0.1, 0.2), (0.5, 0.0))  # probabilities: first view, second view, local views
_TRIES = 10


class View(NamedTuple):
    """One crop of an image.

    Attributes:
        image: uint8 `[S, S, 3]`, already mirrored if `flip`.
        box: Its position, in the unit square of the whole image.
        flip: True if it was mirrored left to right.
    """

    image: NDArray[np.uint8]
    box: Box
    flip: bool


class MultiViewCrop:
    """Cuts two global views and any number of local ones from an image.

    Every draw is a function of (seed, epoch, index) alone, so that neither workers nor ranks change a view.

    Args:
        size: Side of the global views, pixels.
        local_views: Number of local views; 0 is our choice; UDI's code defaults to 6, its recipe uses 10.
        local_size: Side of the local views, pixels.
        seed: The run's seed.
        photometric: Augment colours as DINO does; otherwise views are only cut, resized and mirrored.
        global_crops_scale: Least and largest share of the image's area that a global view covers.

    Raises:
        UserError: If a side, a number or a share is out of its range.
    """

    def __init__(
        self,
        size: int,
        local_views: int = 0,
        local_size: int = 96,
        seed: int = 0,
        photometric: bool = True,
        global_crops_scale: tuple[float, float] = GLOBAL_AREA,
    ) -> None:
        if size < 1 or local_size < 1 or local_views < 0:
            found = f"size {size}, local_size {local_size}, local_views {local_views}"
            raise UserError(f"expected sides of at least 1 and local_views of at least 0, found {found}")
        self.global_crops_scale = checked_scale(global_crops_scale)
        self.size = size
        self.local_views = local_views
        self.local_size = local_size
        self.seed = seed
        self.photometric = [dino_photometric(*p) for p in DINO_BLUR_SOLARIZE] if photometric else None

    def __call__(self, image: NDArray[np.uint8], epoch: int, index: int) -> tuple[list[View], list[View]]:
        """Cut one image.

        Args:
            image: The whole image.
            epoch: Epoch, from 0.
            index: Index of the image in its data set.

        Returns:
            The two global views, and the local ones.
        """
        draws = np.random.default_rng([self.seed, epoch, index])
        height, width = image.shape[:2]
        first = draw_box(draws, height, width, self.global_crops_scale)
        second = draw_overlapping_box(draws, height, width, self.global_crops_scale, first)
        local = [draw_box(draws, height, width, LOCAL_AREA) for _ in range(self.local_views)]
        pixels = Image.fromarray(image)
        return (
            [self._cut(draws, pixels, box, self.size, which) for which, box in enumerate((first, second))],
            [self._cut(draws, pixels, box, self.local_size, 2) for box in local],
        )

    def _cut(self, draws: np.random.Generator, image: Image.Image, box: Box, size: int, which: int) -> View:
        flip = bool(draws.random() < 0.5)
        crop = resize_crop(image, box, (size, size))
        if flip:
            crop = crop[:, ::-1]
        if self.photometric is not None:
            transform = self.photometric[which]
            # not set_random_seed, after which each step draws the same number: grey and solarize would coincide
            transform.set_random_state(draws, random.Random(int(draws.integers(2**31))))
            crop = transform(image=np.ascontiguousarray(crop))["image"]
        y0, x0, y1, x1 = box
        return View(crop, (y0 / image.height, x0 / image.width, y1 / image.height, x1 / image.width), flip)


def checked_scale(scale: Sequence[float]) -> tuple[float, float]:
    """The least and largest share of an image that a view covers.

    Raises:
        UserError: If they are not 0 < least ≤ largest ≤ 1.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise UserError(
            "global_crops_scale: expected the least and the largest share of an image's area, above 0 and at most 1, "
            f"such as [0.25, 1.0]; found {list(scale)}"
        )
    return scale[0], scale[1]


def dino_photometric(blur: float, solarize: float) -> albumentations.Compose:
    """DINO's colour augmentation: jitter (0.4, 0.4, 0.2, 0.1) p 0.8, grey p 0.2, blur of 0.1–2 px, solarize above one
    half.

    Args:
        blur: Probability of the blur. DINO: 1.0 and 0.1 for the two global views, 0.5 for local ones.
        solarize: Probability. DINO: 0.2 for the second global view, else 0.
    """
    return albumentations.Compose(
        [
            albumentations.ColorJitter(
                brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.8, 1.2), hue=(-0.1, 0.1), p=0.8
            ),
            albumentations.ToGray(p=0.2),
            albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            albumentations.Solarize(threshold_range=(0.5, 0.5), p=solarize),
        ]
    )


def resize_crop(image: Image.Image, box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut a box, in fractional pixels, and resize it to (height, width), bicubic with antialiasing."""
    y0, x0, y1, x1 = box
    # The reducing gap halves very large crops by averaging first: no visible difference, an order of magnitude faster.
    crop = image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=(x0, y0, x1, y1), reducing_gap=3.0)
    return np.asarray(crop)


def draw_box(draws: np.random.Generator, height: int, width: int, area: tuple[float, float]) -> Box:
    """Draw a crop, in fractional pixels: uniform area, log-uniform aspect, uniform position.

    On images too elongated for any draw, the largest centred crop of an allowed aspect is taken.
    """
    for _ in range(_TRIES):
        pixels = draws.uniform(*area) * height * width
        aspect = math.exp(draws.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = math.sqrt(pixels / aspect), math.sqrt(pixels * aspect)
        if h <= height and w <= width:
            return _box(draws.uniform(0, height - h), draws.uniform(0, width - w), h, w, height, width)
    h, w = min(height, width / ASPECT[0]), min(width, height * ASPECT[1])
    return _box((height - h) / 2, (width - w) / 2, h, w, height, width)


def draw_overlapping_box(
    draws: np.random.Generator, height: int, width: int, area: tuple[float, float], other: Box
) -> Box:
    """Draw a crop that shares at least `MIN_OVERLAP` of the smaller of the two with another crop.

    By rejection; after ten misses the last crop is centred on the other one, which always meets the bound, because
    aspects are bounded.
    """
    for _ in range(_TRIES):
        box = draw_box(draws, height, width, area)
        if overlap(box, other) >= MIN_OVERLAP:
            return box
    h, w = box[2] - box[0], box[3] - box[1]
    y0, x0 = (other[0] + other[2] - h) / 2, (other[1] + other[3] - w) / 2
    return _box(min(max(y0, 0.0), height - h), min(max(x0, 0.0), width - w), h, w, height, width)


def overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, as a fraction of the smaller one's area."""
    h = min(one[2], other[2]) - max(one[0], other[0])
    w = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(h, 0.0) * max(w, 0.0) / smaller


def _box(y0: float, x0: float, h: float, w: float, height: int, width: int) -> Box:
    return (y0, x0, min(y0 + h, float(height)), min(x0 + w, float(width)))
