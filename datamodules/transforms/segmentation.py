"""Joint transforms of a training image and its mask: random size, balanced crop, flip and colours.

Defaults are those of common segmentation toolboxes. The image is interpolated; the mask takes the
nearest pixel of the same crop.

Shapes: images are `[height, width, 3]`, RGB; masks `[height, width]`, class ids; both uint8.
"""

from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.reading.masks import IGNORE

# imported first: it keeps albumentations from looking for updates on the network
from datamodules.transforms.multi_crop import albumentations  # type: ignore[attr-defined]
from src.core.errors import UserError

Window = tuple[int, int, int, int]
"""(y0, x0, y1, x1), whole pixels."""

PAD = (124, 116, 104)  # the mean colour of ImageNet: close to zero once the backbone has normalised it
_TRIES = 10


class TrainingTransforms:
    """Random resize, crop with a limit on the largest class, horizontal flip and photometric distortion.

    Args:
        crop: Side, or (height, width), of the network's training input. A smaller resized image is padded at the bottom
            and the right, which the mask ignores.
        resize: Range of the factor, drawn uniformly, by which an image is resized.
        short_side: An image's short side is brought to this many pixels first, also of images that are evaluated or
            predicted at their `native` sizes; None: the factor is of its own size.
        max_class_share: Of ten crops, the first is taken in which no class has more than this share of the labelled
            pixels, or else the most balanced one; 1 takes the first crop.
        flip: Probability of mirroring left to right.
        photometric: Change brightness, contrast, saturation and hue, each with probability one half.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(
        self,
        crop: int | tuple[int, int],
        resize: tuple[float, float] = (0.5, 2.0),
        short_side: int | None = None,
        max_class_share: float = 0.75,
        flip: float = 0.5,
        photometric: bool = True,
    ) -> None:
        height, width = (crop, crop) if isinstance(crop, int) else crop
        if min(height, width) < 1 or not 0 < resize[0] <= resize[1] or (short_side is not None and short_side < 1):
            found = f"crop {crop}, resize {resize}, short_side {short_side}"
            raise UserError(f"expected sides of at least 1 and 0 < smallest factor <= largest factor, found {found}")
        if not (0 < max_class_share <= 1 and 0 <= flip <= 1):
            found = f"max_class_share {max_class_share}, flip {flip}"
            raise UserError(f"expected max_class_share in (0, 1] and flip in [0, 1], found {found}")
        self.crop = (height, width)
        self.short_side = short_side
        steps = [BalancedCrop(self.crop, resize, short_side, max_class_share), albumentations.HorizontalFlip(p=flip)]
        self._compose = albumentations.Compose([*steps, *(photometric_distortion() if photometric else ())])

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], draws: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Transform one image and its mask.

        Args:
            image: `[h, w, 3]`.
            mask: `[h, w]`.
            draws: Source of all randomness, so that a key (seed, epoch, sample) determines the result.

        Returns:
            Image and mask of the size of the crop.
        """
        # one stream for all steps: with set_random_seed each would draw the same number, so that all steps of one
        # probability would coincide
        self._compose.set_random_state(draws, random.Random(int(draws.integers(2**31))))
        done = self._compose(image=image, mask=mask)
        return done["image"], done["mask"]


class BalancedCrop(albumentations.DualTransform):
    """Resizes and crops in one step: only the pixels of the crop are resized.

    Args:
        crop: (height, width) of the result.
        resize: Range of the factor.
        short_side: Reference of the factor, pixels; None for the image's own size.
        max_class_share: Largest share of one class among the labelled pixels of a crop.
    """

    def __init__(
        self, crop: tuple[int, int], resize: tuple[float, float], short_side: int | None, max_class_share: float
    ) -> None:
        super().__init__(p=1.0)
        self.crop = crop
        self.resize = resize
        self.short_side = short_side
        self.max_class_share = max_class_share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the factor, and up to ten windows (albumentations calls this once per image)."""
        mask = data["mask"]
        factor = float(self.random_generator.uniform(*self.resize))
        if self.short_side is not None:
            factor *= self.short_side / min(mask.shape)
        chosen = self._draw(mask.shape, factor)
        share = largest_share(self.apply_to_mask(mask, *chosen))
        for _ in range(_TRIES - 1):
            if share <= self.max_class_share:
                break
            other = self._draw(mask.shape, factor)
            other_share = largest_share(self.apply_to_mask(mask, *other))
            if other_share < share:
                chosen, share = other, other_share
        window, size = chosen
        return {"window": window, "size": size}

    def apply(self, img: NDArray[np.uint8], window: Window, size: tuple[int, int], **_: Any) -> NDArray[np.uint8]:
        """Resize the image in a window: by area averages if it shrinks, linearly if it grows."""
        shrinks = size[0] < window[2] - window[0]
        return self._resized(img, window, size, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR, PAD)

    def apply_to_mask(
        self, mask: NDArray[np.uint8], window: Window, size: tuple[int, int], **_: Any
    ) -> NDArray[np.uint8]:
        """Resize the mask in a window, nearest."""
        return self._resized(mask, window, size, cv2.INTER_NEAREST_EXACT, (IGNORE,))

    def _draw(self, shape: tuple[int, int], factor: float) -> tuple[Window, tuple[int, int]]:
        """A window of the original, and the (height, width) to resize it to: the crop's, or less."""
        sides = []
        for length, crop in zip(shape, self.crop, strict=True):
            side = min(length, max(1, round(crop / factor)))
            start = int(self.random_generator.integers(length - side + 1))
            whole = side == length  # the resized image may be smaller than the crop
            sides.append((start, start + side, min(crop, max(1, round(length * factor))) if whole else crop))
        (y0, y1, height), (x0, x1, width) = sides
        return (y0, x0, y1, x1), (height, width)

    def _resized(
        self, pixels: NDArray[np.uint8], window: Window, size: tuple[int, int], how: int, pad: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        y0, x0, y1, x1 = window
        done = cv2.resize(pixels[y0:y1, x0:x1], (size[1], size[0]), interpolation=how)
        if size != self.crop:
            below, beside = self.crop[0] - size[0], self.crop[1] - size[1]
            done = cv2.copyMakeBorder(done, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=pad)
        return np.asarray(done, np.uint8)


def photometric_distortion() -> list[albumentations.ImageOnlyTransform]:
    """Brightness ± 32, contrast and saturation × 0.5–1.5, hue ± a tenth of its circle; each with probability 0.5."""
    same = (1.0, 1.0)
    return [
        albumentations.RandomBrightnessContrast(brightness_limit=32 / 255, contrast_limit=0, p=0.5),
        albumentations.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.5, p=0.5),
        albumentations.ColorJitter(brightness=same, contrast=same, saturation=(0.5, 1.5), hue=(0, 0), p=0.5),
        albumentations.ColorJitter(brightness=same, contrast=same, saturation=same, hue=(-0.1, 0.1), p=0.5),
    ]


def largest_share(mask: NDArray[np.uint8]) -> float:
    """Share of the most frequent class among the labelled pixels; 1 if none is labelled."""
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
    counts[IGNORE] = 0
    total = float(counts.sum())
    return float(counts.max()) / total if total else 1.0
