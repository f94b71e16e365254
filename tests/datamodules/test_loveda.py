"""LoveDA's layout and classes, in miniature and on real tiles."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from datamodules.loveda import LoveDADataModule
from tests.datamodules import miniatures

REAL = Path(os.environ.get("DATA_ROOT", "/nowhere")) / "loveda"


def test_both_domains_are_one_set_and_no_data_is_ignored(tmp_path: Path) -> None:
    data = LoveDADataModule(miniatures.loveda(tmp_path), task="segment", cache=False)
    source = data.source("train")
    assert [source.name(i) for i in range(4)] == [
        f"Train/{place}/images_png/{i}.png" for place, i in (("Rural", 1), ("Rural", 3), ("Urban", 0), ("Urban", 2))
    ]
    for i in range(4):
        pixels, mask = source.pair(i)
        np.testing.assert_array_equal(mask, miniatures.mask([255, 0, 1, 6]))
        np.testing.assert_array_equal(pixels, miniatures.image(int(Path(source.name(i)).stem)))


def test_test_images_are_what_is_predicted_under_their_own_names(tmp_path: Path) -> None:
    data = LoveDADataModule(miniatures.loveda(tmp_path), task="segment", size=16, num_workers=0)
    (batch,) = data.predict_dataloader()
    assert batch.names == ["Test/Urban/images_png/6.png"] and (batch.masks[0] == 255).all()


def test_only_the_test_images_of_the_benchmark_are_a_submission(tmp_path: Path) -> None:
    root = miniatures.loveda(tmp_path / "whole")
    assert LoveDADataModule(root, task="segment").submission
    assert not LoveDADataModule(root, task="segment", predict_on=root / "Val").submission
    assert not LoveDADataModule(miniatures.loveda(tmp_path / "val", test=0), task="segment").submission


def test_half_a_copy_is_used_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = LoveDADataModule(miniatures.loveda(tmp_path, train=1, val=1, test=0), task="segment", cache=False)
    assert len(data.source("train")) == 1 and len(data.read_predict()) == 1
    assert "only Urban was found, half of LoveDA's Train split" in caplog.text


def test_a_missing_folder_is_answered_with_the_layout(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected LoveDA's folders .*, found no Train/Urban/images_png"):
        LoveDADataModule(tmp_path).setup("fit")


@pytest.mark.skipif(not REAL.is_dir(), reason="set DATA_ROOT to the folder that holds loveda")
def test_real_tiles_have_the_published_size_and_water_is_not_bright() -> None:
    data = LoveDADataModule(REAL, task="segment", cache=False)
    for split in ("train", "val"):
        image, mask = data.source(split).pair(0)  # type: ignore[arg-type]
        assert image.shape == (1024, 1024, 3) and mask.shape == (1024, 1024)
        assert set(np.unique(mask)) <= {*range(7), 255}
