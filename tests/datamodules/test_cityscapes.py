"""Cityscapes' layout, classes and both kinds of its masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.cityscapes import TRAIN_IDS, VOID_IDS, CityscapesDataModule
from datamodules.reading.errors import ImageError
from tests.datamodules import miniatures


@pytest.mark.parametrize("train_ids", [False, True])
def test_label_ids_and_train_ids_give_the_same_classes(tmp_path: Path, train_ids: bool) -> None:
    root = miniatures.cityscapes(tmp_path, train_ids=train_ids)
    if train_ids:
        for path in root.rglob("*_labelIds.png"):
            path.unlink()
    data = CityscapesDataModule(root, task="segment", cache=False)
    source = data.source("train")
    assert len(source) == 4 and len(data.source("val")) == 2
    assert source.name(0) == "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    np.testing.assert_array_equal(source.pair(3)[1], miniatures.mask([255, 0, 1, 18]))


def test_a_conversion_that_is_not_whole_is_not_used(tmp_path: Path) -> None:
    root = miniatures.cityscapes(tmp_path, train_ids=True)
    next(root.glob("gtFine/train/bochum/*_labelTrainIds.png")).unlink()
    data = CityscapesDataModule(root, task="segment", cache=False)
    source = data.source("train")
    for i in range(4):
        np.testing.assert_array_equal(source.pair(i)[1], miniatures.mask([255, 0, 1, 18]))
    assert data.labels("train") == data.BY_LABEL_ID and data.labels("val") == data.BY_TRAIN_ID


def test_every_label_id_is_a_class_or_void() -> None:
    assert sorted([*TRAIN_IDS, *VOID_IDS]) == list(range(34))
    names = list(CityscapesDataModule.CLASSES)
    ids = {names[c]: i for i, c in CityscapesDataModule.BY_LABEL_ID.items() if c != 255}
    assert len(ids) == 19 and (ids["road"], ids["sky"], ids["car"], ids["train"]) == (7, 23, 26, 31)


def test_test_images_are_what_is_predicted(tmp_path: Path) -> None:
    root = miniatures.cityscapes(tmp_path / "all")
    (batch,) = CityscapesDataModule(root, task="segment", size=16, num_workers=0).predict_dataloader()
    assert batch.names == ["leftImg8bit/test/aachen/aachen_000000_000019_leftImg8bit.png"]
    assert (batch.masks[0] == 255).all()
    without = miniatures.cityscapes(tmp_path / "without", test=0)
    assert len(CityscapesDataModule(without, task="segment").read_predict()) == 2


def test_a_missing_mask_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found no leftImg8bit/train"):
        CityscapesDataModule(tmp_path).setup("fit")
    root = miniatures.cityscapes(tmp_path)
    next(root.glob("gtFine/val/bochum/*labelIds.png")).unlink()
    with pytest.raises(ImageError, match=r"expected one mask .*bochum_000001_000019_gtFine_labelIds\.png, found none"):
        CityscapesDataModule(root, task="segment").source("val")
