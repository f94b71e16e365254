"""Arguments that every data module shares, defined and checked once."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.reading.checking import OnError
from datamodules.reading.reduction import Reduction, sufficient_side
from datamodules.reading.stretching import Stretch
from datamodules.sampling.splits import check_max_images
from datamodules.transforms.multi_crop import GLOBAL_AREA, checked_scale
from datamodules.transforms.segmentation import TrainingTransforms
from src.core.errors import UserError

MOST_WORKERS = 512  # loader processes: a mistyped number would start processes until the machine stops


@dataclass(eq=False, repr=False)
class DataArguments:
    """Arguments of all data modules; a subclass takes them as `**shared` in addition to its own.

    Args:
        task: `pretrain`: `train_dataloader` yields `Crops` of all training images, masks unread. `segment`: all
            loaders yield `SegmentationBatch`.
        batch_size: Images per batch, over all processes together; the set's size, if that is smaller.
        size: Side of the global views; for `segment` the side, or (height, width), that images are resized to.
        global_crops_scale: Least and largest share of an image's area that a global view covers (`pretrain`). Objects
            should have about the size in pixels that they have when the backbone is used: at half the share, the same
            ground covers twice as many patches.
        local_views: Number of local views (`pretrain`).
        local_size: Side of the local views (`pretrain`).
        transforms: Transforms of training images and masks (`segment`); None only resizes them to `size`.
        evaluate_on: `val`, or `holdout`: a fixed fifth of the training images, which `segment` then does not train on.
            Settings are chosen on the latter.
        label_fraction: Share of the training images that `segment` trains on, drawn by `seed`; for one seed the 1 % are
            a subset of the 10 %.
        extra: Further folders of images without labels, searched recursively, that `pretrain` sees besides the
            training images.
        on_error: How to handle unreadable files: `raise`, at the first use; or `skip`, after one pass over all files
            at the start, which names and counts them.
        evaluation: Images to evaluate and to predict are `resized` to `size`, or keep their `native` sizes, one at a
            time, for the model's own inference; where `transforms` has a `short_side`, at that scale.
        predict_on: Folder of images to predict, of any sizes and nesting; None for the data set's own.
        num_workers: Loader processes; 0 loads in the main process.
        prefetch_factor: Batches that each loader process prepares ahead.
        scaled_decoding: Decode large JPEGs at a half, a quarter or an eighth of their size where that is large enough
            for the views (`pretrain`): several times faster, with slightly different pixels.
        copies: Folder for downscaled copies of the images, made at the first use and shared by processes and runs
            (`pretrain`); for sets that do not fit in memory.
        colours: Where colour augmentation runs (`pretrain`): in the `loader`; on the `device` in whole batches, with
            other draws from the same distribution; or nowhere, with `none`, so that views are only cut, resized and
            mirrored.
        seed: Seed of order, crops and colours.
        cache: Decode once and keep the images in memory, if they fit in 1 GiB.
        max_images: Images of the data set, `extra` not counted, that `pretrain` sees at most: a fixed draw that never
            depends on a run's seed, in which 10 images are a subset of 30; all if None.
        percentiles: Low and high percentile, such as [1, 99], of each image of more than 8 bits that become 0 and 255;
            None takes its smallest and largest value.
        range: Low and high value that become 0 and 255 in all images of more than 8 bits; instead of `percentiles`.
    """

    task: Literal["pretrain", "segment"] = "pretrain"
    batch_size: int = 16
    size: int | tuple[int, int] = 224
    global_crops_scale: tuple[float, float] = GLOBAL_AREA
    local_views: int = 0
    local_size: int = 96
    transforms: TrainingTransforms | None = None
    evaluate_on: Literal["val", "holdout"] = "val"
    label_fraction: float = 1.0
    extra: list[Path] | None = None
    on_error: OnError = "raise"
    evaluation: Literal["resized", "native"] = "resized"
    predict_on: Path | None = None
    num_workers: int = 2
    prefetch_factor: int = 2
    scaled_decoding: bool = False
    copies: Path | None = None
    colours: Literal["loader", "device", "none"] = "loader"
    seed: int = 0
    cache: bool = True
    max_images: int | None = None
    percentiles: tuple[float, float] | None = None
    range: tuple[float, float] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Resolve a subclass's annotations: next to a dataclass's, jsonargparse leaves them as unchecked text."""
        super().__init_subclass__(**options)
        if inspect.isfunction(own := vars(cls).get("__init__")):
            own.__annotations__ = typing.get_type_hints(own)

    def __post_init__(self) -> None:
        super().__init__()  # Lightning's data module, later in the order of bases
        if self.task == "pretrain" and not isinstance(self.size, int):
            raise UserError(f"size: expected the side of a square view for pre-training, found {self.size}")
        sides = (self.size,) if isinstance(self.size, int) else self.size
        if min(*sides, self.local_size) < 1:
            raise UserError(f"size and local_size: expected pixels, found {self.size} and {self.local_size}")
        if self.batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, found {self.batch_size}")
        if min(self.num_workers, self.local_views) < 0:
            raise UserError(
                f"num_workers and local_views: expected 0 or more, found {self.num_workers} and {self.local_views}"
            )
        if self.seed < 0:
            raise UserError(f"seed: expected 0 or more, found {self.seed}")
        if self.prefetch_factor < 1:
            raise UserError(f"prefetch_factor: expected at least 1 batch, found {self.prefetch_factor}")
        self.global_crops_scale = checked_scale(self.global_crops_scale)
        if self.num_workers > MOST_WORKERS:
            raise UserError(f"num_workers: expected at most {MOST_WORKERS} processes, found {self.num_workers}")
        if not 0 < self.label_fraction <= 1:
            raise UserError(f"label_fraction: expected a share in (0, 1], found {self.label_fraction}")
        check_max_images(self.max_images)
        self.stretch = Stretch(self.percentiles, self.range)
        self.reduction: Reduction | None = None
        if self.task == "pretrain" and (self.scaled_decoding or self.copies is not None):
            assert isinstance(self.size, int)
            side = sufficient_side(self.size, self.global_crops_scale[0])
            self.reduction = Reduction(side, self.scaled_decoding, self.copies)
