"""Pascal Context's layout and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.pascal_context import PascalContextDataModule
from datamodules.preparing.pascal_annotation import CATEGORIES
from datamodules.reading.errors import ImageError
from tests.datamodules import miniatures


def test_only_images_of_the_lists_are_used_and_background_is_ignored(tmp_path: Path) -> None:
    data = PascalContextDataModule(miniatures.pascal_context(tmp_path), task="segment", cache=False)
    train, val = data.source("train"), data.source("val")
    assert [Path(train.name(i)).stem for i in range(len(train))] == [f"2008_{i:06d}" for i in range(4)]
    assert [Path(val.name(i)).stem for i in range(len(val))] == ["2008_000004", "2008_000005"]
    np.testing.assert_array_equal(val.pair(1)[1], miniatures.mask([255, 0, 1, 58]))


def test_the_root_may_be_any_of_the_archives_folders(tmp_path: Path) -> None:
    root = miniatures.pascal_context(tmp_path)
    for place in (root, root / "VOCdevkit", root / "VOCdevkit" / "VOC2010"):
        assert len(PascalContextDataModule(place).source("train")) == 4


def test_each_of_the_59_names_belongs_to_the_category_that_prepare_writes_at_its_place() -> None:
    names = list(PascalContextDataModule.CLASSES)
    assert len(names) == len(CATEGORIES) == 59
    assert names == sorted(names)  # as the 459 categories are
    voc = {23: "bicycle", 34: "bottle", 45: "bus", 59: "car", 113: "dog", 258: "motorbike", 284: "person", 368: "sofa"}
    assert {category: names[CATEGORIES.index(category)] for category in voc} == voc
    assert PascalContextDataModule.CLASSES["aeroplane"] == (180, 120, 120)


def test_missing_lists_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"found no ImageSets/SegmentationContext/train\.txt; .*prepare"):
        PascalContextDataModule(tmp_path).setup("fit")
    root = miniatures.pascal_context(tmp_path)
    gone = root / "VOCdevkit" / "VOC2010" / "SegmentationClassContext" / "2008_000002.png"
    gone.unlink()
    with pytest.raises(ImageError, match=r"2008_000002\.png: expected a file.*found nothing"):
        PascalContextDataModule(root, task="segment").source("train")
    (root / "VOCdevkit" / "VOC2010" / "ImageSets" / "SegmentationContext" / "val.txt").write_text("\n")
    with pytest.raises(ImageError, match=r"val\.txt: expected the name of an image on each line, found none"):
        PascalContextDataModule(root, task="segment").source("val")
