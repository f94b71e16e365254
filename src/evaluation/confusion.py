"""Confusion matrices of segmentations, one per image, and their scores.

Shapes: C classes; a confusion matrix is [truth, prediction] in pixels, int64.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.core.archives import read_arrays, write_arrays
from src.core.atomic_files import make_folder
from src.core.distributed import merge_by_index
from src.core.errors import UserError
from src.core.float64 import where_float64_is


class Scores(NamedTuple):
    """Scores of one confusion matrix; float64 throughout.

    Attributes:
        miou: Mean IoU over the classes in truth or prediction; NaN if there are none.
        iou: Per class `[C]`; NaN where a class is in neither.
        accuracy: Share of correct labelled pixels (aAcc); NaN without labelled pixels.
        class_accuracy: Recall per class `[C]`; NaN for classes missing in the truth.
        mean_accuracy: Mean of those (mAcc).
        dice: Per class `[C]`, 2 · intersection / (truth + prediction); NaN where a class is in neither.
        mean_dice: Mean over the classes in truth or prediction.
        absent: Classes in neither truth nor prediction: left out of `miou`.
    """

    miou: float
    iou: Tensor
    accuracy: float
    class_accuracy: Tensor
    mean_accuracy: float
    dice: Tensor
    mean_dice: float
    absent: list[int]


def check_names(num_classes: int, names: list[str] | None) -> list[str]:
    """Return the names of the classes; their ids if there are none.

    Raises:
        UserError: If there are not as many names as classes, or two are the same.
    """
    names = names if names is not None else [str(index) for index in range(num_classes)]
    if len(set(names)) != num_classes:
        raise UserError(f"num_classes is {num_classes}, and class_names are {names}; expected one name per class")
    return names


def iou_from_confusion(confusion: Tensor) -> Tensor:
    """Intersection over union per class, float64 `[..., C]`, from counts `[..., C, C]`; NaN for an empty union."""
    counts = where_float64_is(confusion).double()
    right = counts.diagonal(dim1=-2, dim2=-1)
    return right / (counts.sum(-1) + counts.sum(-2) - right)  # 0 / 0 is NaN


def scores_from_confusion(confusion: Tensor) -> Scores:
    """Scores of the pooled counts `[C, C]`, not a mean of per-image scores."""
    counts = where_float64_is(confusion).double()
    iou, right = iou_from_confusion(counts), counts.diagonal()
    class_accuracy, dice = right / counts.sum(-1), 2 * right / (counts.sum(-1) + counts.sum(-2))
    return Scores(
        miou=float(iou.nanmean()),
        iou=iou,
        accuracy=float(right.sum() / counts.sum()),
        class_accuracy=class_accuracy,
        mean_accuracy=float(class_accuracy.nanmean()),
        dice=dice,
        mean_dice=float(dice.nanmean()),
        absent=iou.isnan().nonzero().flatten().tolist(),
    )


class ImageConfusions(NamedTuple):
    """Confusion matrices of single images, in the order of their index in the data set.

    Attributes:
        names: One per image.
        matrices: int64 `[images, C, C]`.
    """

    names: list[str]
    matrices: Tensor

    def save(self, path: Path) -> None:
        """Write `names` and `matrices` to a compressed .npz."""
        make_folder(path.parent)
        write_arrays(path, names=np.array(self.names, dtype=np.str_), matrices=self.matrices.numpy())

    @classmethod
    def load(cls, path: Path) -> ImageConfusions:
        """Read the file of `save`.

        Raises:
            FileNotFoundError: If the file does not exist.
            UserError: If it cannot be read completely.
        """
        stored = read_arrays(path)
        return cls(stored["names"].tolist(), torch.from_numpy(stored["matrices"]))


class ConfusionPerImage:
    """Counts predictions against truth, image by image.

    Args:
        num_classes: C.
        ignore_index: Ignore index of the truth.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        # sparse: an image has few of 150 classes, and 2,000 dense float64 matrices take 360 MB
        self._images: dict[int, tuple[str, Tensor]] = {}

    def reset(self) -> None:
        """Remove every image."""
        self._images = {}

    def update(self, index: int, name: str, prediction: Tensor, truth: Tensor) -> None:
        """Count one image; a repeated one (from a padding sampler) replaces itself.

        Args:
            index: Index in the data set.
            name: Name of the image, for messages and files.
            prediction: Class ids `[h, w]`.
            truth: Class ids `[h, w]`.

        Raises:
            UserError: If the sizes differ, or truth holds an id that is neither a class nor the ignore id.
        """
        if prediction.shape != truth.shape:
            raise UserError(f"{name}: prediction {list(prediction.shape)} and mask {list(truth.shape)} differ in size")
        labelled = truth != self.ignore_index
        held, given = truth[labelled].long(), prediction[labelled]
        unknown = held[(held < 0) | (held >= self.num_classes)]
        if unknown.numel():
            raise UserError(
                f"{name}: the mask holds id {int(unknown[0])}; expected classes 0 to {self.num_classes - 1} or the "
                f"ignore id {self.ignore_index}"
            )
        # not torchmetrics' confusion matrix, which builds a pixels × C² table with deterministic algorithms
        cells = torch.bincount(held * self.num_classes + given, minlength=self.num_classes**2)
        self._images[index] = (name, cells.view(self.num_classes, self.num_classes).cpu().to_sparse())

    def gathered(self) -> ImageConfusions:
        """Every image of every rank, each once; call it on all ranks."""
        images = merge_by_index(self._images)
        empty = torch.zeros(0, self.num_classes, self.num_classes, dtype=torch.int64)
        matrices = torch.stack([counts.to_dense() for _, counts in images.values()]) if images else empty
        return ImageConfusions([name for name, _ in images.values()], matrices)
