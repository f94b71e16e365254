"""The sample that a pre-training is watched on: the same in every run, and never the validation images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datamodules.camvid import CamVidDataModule
from datamodules.folder import FolderDataModule
from datamodules.sampling.monitor_sample import spread
from datamodules.sampling.splits import holdout


def camvid(root: Path, images: int = 20, **options) -> CamVidDataModule:
    """Image i is of colour i, its mask of class i modulo 11; validation images are white."""
    for split, count in (("train", images), ("val", 2)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            colour = i if split == "train" else 255
            Image.fromarray(np.full((24, 32, 3), colour, np.uint8)).save(root / "images" / split / f"{i:03d}.png")
            Image.fromarray(np.full((24, 32), i % 11, np.uint8)).save(root / "masks" / split / f"{i:03d}.png")
    return CamVidDataModule(root, size=16, num_workers=0, **options)


def test_it_is_the_same_for_every_seed_and_reads_masks_although_pretraining_does_not(tmp_path: Path) -> None:
    one, two = (camvid(tmp_path, seed=seed, batch_size=4).monitor_sample(6, 9) for seed in (0, 7))
    assert torch.equal(one.crops.global_views.images, two.crops.global_views.images)
    assert one.crops.indices.tolist() == spread(range(20), 6) == [0, 4, 8, 11, 15, 19]
    assert one.bank is not None and one.queries is not None
    assert (len(one.bank.images), len(one.queries.images)) == (6, 3)
    for part in (one.bank, one.queries):
        for image, mask, index in zip(part.images, part.masks, part.indices.tolist(), strict=True):
            assert (image == index).all() and (mask == index % 11).all() and mask.shape == (24, 32)


def test_questions_come_from_the_held_out_fifth_and_answers_from_the_rest(tmp_path: Path) -> None:
    sample = camvid(tmp_path).monitor_sample(2, 1000)
    assert sample.bank is not None and sample.queries is not None
    assert sample.queries.indices.tolist() == holdout(20)
    assert sorted(sample.bank.indices.tolist() + holdout(20)) == list(range(20))
    assert all(name.startswith("images/train/") for name in [*sample.bank.names, *sample.queries.names])


def test_without_masks_or_with_a_bad_one_only_the_views_are_there(tmp_path: Path, caplog) -> None:
    data = camvid(tmp_path / "good")
    (tmp_path / "good" / "masks" / "train" / "000.png").write_bytes(b"no image")
    assert data.monitor_sample(2, 30).bank is None
    assert "000.png" in caplog.text
    plain = FolderDataModule(tmp_path / "good" / "images" / "train", size=16, num_workers=0).monitor_sample(30, 30)
    assert plain.bank is None and plain.queries is None
    assert plain.crops.indices.tolist() == list(range(20))
    assert data.monitor_sample(2, 0).bank is None
