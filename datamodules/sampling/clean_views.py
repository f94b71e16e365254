"""Training crops without colour changes, for calibration."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from datamodules.batches import UnlabelledViews, collate_views
from datamodules.reading.sources import Source
from datamodules.sampling.monitor_sample import spread
from datamodules.transforms.multi_crop import GLOBAL_AREA, MultiViewCrop

BATCH = 16  # images at a time, which bounds the reader's memory


def clean_views(
    source: Source,
    size: int,
    images: int,
    seed: int,
    num_workers: int,
    scale: tuple[float, float] = GLOBAL_AREA,
) -> DataLoader[Any]:
    """Batches of `Crops` with two views of each image, without colour changes; the same on every rank.

    Args:
        source: Images.
        size: Side of the views, pixels.
        images: At most this many, evenly spread over the source. If there are at most half as many, they are seen in
            several epochs with different crops.
        seed: The run's seed.
        num_workers: Loader processes.
        scale: Least and largest share of an image's area that a view covers.
    """
    chosen = spread(range(len(source)), images)
    keys = [(epoch, index) for epoch in range(max(1, images // len(chosen))) for index in chosen]
    views: Any = UnlabelledViews(source, MultiViewCrop(size, seed=seed, photometric=False, global_crops_scale=scale))
    return DataLoader(views, batch_size=BATCH, sampler=keys, collate_fn=collate_views, num_workers=num_workers)
