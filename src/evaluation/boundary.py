"""Boundary IoU (arXiv 2103.16562).

Shapes: C classes; counts are int64 `[C, 2]`, intersection and union in pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.core.distributed import merge_by_index
from src.core.float64 import where_float64_is
from src.core.numbers import check_number


def boundary(mask: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Pixels of a mask `[h, w]` (0 or 1) within `width` of the outside of the mask, or of the image's edge.

    Distance is the larger of the two coordinates', as in the authors' code, which erodes by 3×3 squares.
    """
    inner = cv2.erode(
        mask, np.ones((3, 3), np.uint8), iterations=width, borderType=cv2.BORDER_CONSTANT, borderValue=(0.0,)
    )
    return (mask > inner).astype(np.bool_)


def boundary_width(size: tuple[int, int], share: float) -> int:
    """Width in pixels for an image (h, w): a share of its diagonal, at least one pixel."""
    return max(1, round(share * math.hypot(*size)))


def boundary_iou(counts: Tensor) -> Tensor:
    """Boundary IoU per class, float64 `[C]`; NaN where neither truth nor prediction has a boundary."""
    intersection, union = where_float64_is(counts).double().unbind(-1)
    return intersection / union  # 0 / 0 is NaN


class BoundaryPerImage:
    """Counts the overlap of predicted and true boundaries, image by image.

    Args:
        num_classes: C.
        ignore_index: Ignore index of the truth. Ignored pixels are excluded from the prediction too, so that a class
            ends there in both; our choice, since the paper has none.
        share: Width of a boundary as a share of the image's diagonal; the paper uses 0.02.

    Raises:
        UserError: If the share is not in (0, 1].
    """

    def __init__(self, num_classes: int, ignore_index: int, share: float) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        check_number("boundary", share, most=1.0, open_left=True)
        self.share = share
        self._images: dict[int, Tensor] = {}

    def reset(self) -> None:
        """Remove every image."""
        self._images = {}

    def update(self, index: int, prediction: Tensor, truth: Tensor) -> None:
        """Count one image; a repeated one (from a padding sampler) replaces itself.

        Args:
            index: Index in the data set.
            prediction: Class ids `[h, w]`.
            truth: Class ids `[h, w]`.
        """
        true = truth.cpu().numpy()
        predicted = np.where(true == self.ignore_index, self.ignore_index, prediction.cpu().numpy())
        width = boundary_width((true.shape[0], true.shape[1]), self.share)
        counts = torch.zeros(self.num_classes, 2, dtype=torch.int64)
        for label in set(np.unique(true)) | set(np.unique(predicted)):
            if label != self.ignore_index:
                outlines = [boundary((ids == label).astype(np.uint8), width) for ids in (predicted, true)]
                counts[label, 0] = int(np.count_nonzero(outlines[0] & outlines[1]))
                counts[label, 1] = int(np.count_nonzero(outlines[0] | outlines[1]))
        self._images[index] = counts

    def gathered(self) -> Tensor:
        """Counts of all images of all ranks together, `[C, 2]`; call it on all ranks."""
        images = merge_by_index(self._images)
        return sum(images.values(), torch.zeros(self.num_classes, 2, dtype=torch.int64))
