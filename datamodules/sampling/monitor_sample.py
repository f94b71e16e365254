"""Fixed sample of images, views and masks for monitoring, the same in every run.

Shapes: V views · B images · S side of a view · h, w native size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from datamodules.batches import (
    LabelledPairs,
    PairSample,
    SegmentationBatch,
    UnlabelledViews,
    collate_evaluation,
    collate_views,
)
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Source
from datamodules.sampling.splits import holdout
from datamodules.transforms.multi_crop import GLOBAL_AREA, MultiViewCrop
from datamodules.views import Crops

logger = logging.getLogger(__name__)

# seed of the views' crops and colours, independent of the run's so that runs with different seeds are comparable
SEED = 0


class MonitorSample(NamedTuple):
    """Images to measure features on.

    Attributes:
        crops: Two views of each of some training images.
        bank: Labelled training images as a reference, resized to S×S, masks at native size; None without masks.
        queries: Labelled images of the held-out fifth of the training images; None without masks.
    """

    crops: Crops
    bank: SegmentationBatch | None
    queries: SegmentationBatch | None


def fixed_views(source: Source, side: int, images: int, scale: tuple[float, float] = GLOBAL_AREA) -> Crops:
    """Two views of each of `images` images, or of all if there are fewer; independent of the run."""
    views = UnlabelledViews(source, MultiViewCrop(side, seed=SEED, global_crops_scale=scale))
    return collate_views([views[(0, place)] for place in spread(range(len(source)), images)])


def bank_and_queries(
    read_train: Callable[[], Source], side: int, labelled: int
) -> tuple[SegmentationBatch, SegmentationBatch] | tuple[None, None]:
    """Labelled training images, a third of them from the held-out fifth; none without usable masks.

    Args:
        read_train: Lists the labelled training images.
        side: Side of the square that images are resized to.
        labelled: How many images.
    """
    try:
        train = read_train()
        kept = holdout(len(train))
        rest = sorted(set(range(len(train))) - set(kept))
        if not kept or not labelled:
            return None, None
        pairs = LabelledPairs(train, (side, side), training=False)
        bank = [pairs[place] for place in spread(rest, labelled - labelled // 3)]
        queries = [pairs[place] for place in spread(kept, labelled // 3)]
        if not all(labelled_at_all(part) for part in (bank, queries)):
            logger.info("masks without any class: this pre-training is monitored without labels")
            return None, None
        return collate_evaluation(bank), collate_evaluation(queries)
    except FileNotFoundError:
        logger.info("no masks: this pre-training is monitored without labels")
    except ImageError as error:  # pre-training does not need masks: a bad one must not stop it
        logger.warning("this pre-training is monitored without labels: %s", error)
    return None, None


def labelled_at_all(pairs: list[PairSample]) -> bool:
    """Return True if any pixel of the masks has a class."""
    return any(bool((pair.mask != IGNORE).any()) for pair in pairs)


def spread(places: range | list[int], count: int) -> list[int]:
    """`count` evenly spaced positions, or all: neighbours in a list of files are often alike."""
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
    return [places[i] for i in chosen]
