"""A fixed sample of a domain for watching a pre-training: the same images, views and masks in every run.

Shapes: V views · B images · S side of a view · h, w native size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from datamodules.cropping import MultiViewCrop
from datamodules.datasets import (
    LabelledPairs,
    SegmentationBatch,
    UnlabelledViews,
    collate_evaluation,
    collate_views,
)
from datamodules.sources import Source
from datamodules.views import Crops

SEED = 0  # of the views' crops and colours: another one than the run's would make runs with other seeds incomparable


class FixedSample(NamedTuple):
    """Images to measure features on.

    Attributes:
        crops: Two views of each of some training images.
        bank: Labelled training images to look labels up in, resized to S×S, masks at native size; None without masks.
        queries: Labelled images of the held-out fifth of the training images; None without masks.
    """

    crops: Crops
    bank: SegmentationBatch | None
    queries: SegmentationBatch | None


def fixed_views(source: Source, side: int, images: int) -> Crops:
    """Two views of each of `images` images, or of all if there are fewer; none of it depends on a run."""
    views = UnlabelledViews(source, MultiViewCrop(side, seed=SEED))
    return collate_views([views[(0, place)] for place in spread(range(len(source)), images)])


def fixed_pairs(source: Source, side: int, places: list[int]) -> SegmentationBatch:
    """Labelled images at some places of a source, resized to a square of `side`.

    Raises:
        ImageError: If an image or its mask is unusable.
    """
    pairs = LabelledPairs(source, (side, side), training=False)
    return collate_evaluation([pairs[place] for place in places])


def spread(places: range | list[int], count: int) -> list[int]:
    """`count` of the places at equal distances, or all: neighbours in a list of files are often alike."""
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
    return [places[i] for i in chosen]
