"""CamVid and CWFID as they are on disk; needs DATA_ROOT."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from datamodules.base import DomainDataModule
from datamodules.camvid import CamVidDataModule
from datamodules.cwfid import CWFIDDataModule

ROOT = Path(os.environ.get("DATA_ROOT", "/nowhere"))
needs_data = pytest.mark.skipif(
    not (ROOT / "camvid").is_dir(), reason="set DATA_ROOT to the folder of camvid and cwfid"
)


@needs_data
@pytest.mark.parametrize(
    ("module", "train", "val", "shape"),
    [(CamVidDataModule, 367, 101, (360, 480)), (CWFIDDataModule, 40, 20, (966, 1296))],
)
def test_counts_and_sizes_are_the_published_ones(module: type, train: int, val: int, shape: tuple[int, int]) -> None:
    data = module(ROOT / module.__name__.removesuffix("DataModule").lower(), task="segment", cache=False)
    assert (len(data.source("train")), len(data.source("val"))) == (train, val)
    image, mask = data.source("val").pair(0)
    assert image.shape == (*shape, 3) and mask.shape == shape


@needs_data
def test_camvid_classes_lie_where_they_should() -> None:
    data = CamVidDataModule(ROOT / "camvid", task="segment", cache=False)
    assert data.num_classes == 11 and data.class_names[3] == "road" and len(set(data.palette)) == 11
    masks = np.stack([data.source("train").pair(i)[1] for i in range(0, 360, 40)])
    assert set(np.unique(masks)) <= {*range(11), 255}
    rows = np.arange(360)[None, :, None] * np.ones_like(masks)
    assert rows[masks == 0].mean() < 120 < 240 < rows[masks == 3].mean()  # the sky is above, the road below


@needs_data
def test_cwfid_plants_are_green_and_soil_is_not() -> None:
    image, mask = CWFIDDataModule(ROOT / "cwfid", task="segment", cache=False).source("train").pair(0)
    excess = 2 * image[..., 1].astype(int) - image[..., 0] - image[..., 2]
    assert min(excess[mask == 1].mean(), excess[mask == 2].mean()) > excess[mask == 0].mean() + 10


@pytest.mark.parametrize("module", [CamVidDataModule, CWFIDDataModule])
def test_a_missing_folder_is_answered_with_the_layout(tmp_path: Path, module: type[DomainDataModule]) -> None:
    with pytest.raises(FileNotFoundError, match="expected the folders images/train, images/val, masks/train"):
        module(tmp_path).setup("fit")  # type: ignore[arg-type]
