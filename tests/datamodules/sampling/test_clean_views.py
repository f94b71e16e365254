"""Clean views: the training's crops without colour changes, few images several times, each time cut anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.sampling.monitor_sample import spread
from datamodules.scenes import ScenesDataModule
from datamodules.transforms.multi_crop import MultiViewCrop
from tests.datamodules.sampling.test_monitor_sample import camvid


def keys(data, images: int) -> list[tuple[int, int]]:
    return [
        (int(e), int(i)) for batch in data.clean_views(images) for e, i in zip(batch.epoch, batch.indices, strict=True)
    ]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (6, [(0, i) for i in spread(range(20), 6)]),
        (20, [(0, i) for i in range(20)]),
        (39, [(0, i) for i in range(20)]),
        (45, [(e, i) for e in range(2) for i in range(20)]),
    ],
)
def test_about_as_many_as_asked_for_whole_epochs_where_there_are_few(images, expected, tmp_path: Path) -> None:
    assert keys(camvid(tmp_path), images) == expected


def test_pixels_keep_their_colours_and_crops_are_those_of_the_key(tmp_path: Path) -> None:
    for batch in camvid(tmp_path, seed=3).clean_views(20):
        for image, index in zip(batch.global_views.images.unbind(1), batch.indices.tolist(), strict=True):
            assert (image == index).all()
    data = ScenesDataModule(task="pretrain", size=16, side=32, train_images=3, num_workers=0, seed=5)
    batches = list(data.clean_views(9))
    assert len(batches) == 1 and batches[0].epoch.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    crop = MultiViewCrop(16, seed=5, photometric=False)
    for b, (epoch, index) in enumerate(zip(batches[0].epoch.tolist(), batches[0].indices.tolist(), strict=True)):
        views, _ = crop(data.source("train").image(index), epoch, index)
        for v, view in enumerate(views):
            assert torch.equal(
                batches[0].global_views.images[v, b], torch.from_numpy(view.image.copy()).permute(2, 0, 1)
            )
