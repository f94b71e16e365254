"""ADE20K's layout and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.ade20k import ADE20KDataModule
from tests.datamodules import miniatures


def test_ids_lose_one_and_zero_is_ignored(tmp_path: Path) -> None:
    data = ADE20KDataModule(miniatures.ade20k(tmp_path), task="segment", cache=False)
    source = data.source("train")
    assert len(source) == 4 and len(data.source("val")) == 2
    assert source.name(0) == "ADEChallengeData2016/images/training/ADE_train_00000001.jpg"
    np.testing.assert_array_equal(np.unique(source.pair(0)[1]), [0, 1, 149, 255])
    np.testing.assert_array_equal(source.pair(0)[1], miniatures.mask([255, 0, 1, 149]))


def test_the_root_may_be_the_archives_own_folder(tmp_path: Path) -> None:
    root = miniatures.ade20k(tmp_path) / "ADEChallengeData2016"
    assert len(ADE20KDataModule(root).source("train")) == 4


def test_there_are_150_classes_with_the_benchmarks_colours() -> None:
    names = list(ADE20KDataModule.CLASSES)
    assert len(names) == 150 and (names[0], names[2], names[149]) == ("wall", "sky", "flag")
    assert ADE20KDataModule.CLASSES["person"] == (150, 5, 61) and ADE20KDataModule.CLASSES["flag"] == (92, 0, 255)


def test_a_missing_folder_is_answered_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ADE20K's folders images/\{training,validation\}.* no images/train"):
        ADE20KDataModule(tmp_path).setup("fit")
