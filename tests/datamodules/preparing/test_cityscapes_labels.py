"""Cityscapes' train ids: made of the label ids, made again where they are broken, and verified as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.preparing import cityscapes_labels
from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.cityscapes_labels import write_train_ids
from datamodules.preparing.preparation import prepare
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE
from tests.datamodules import miniatures
from tests.datamodules.pictures import save
from tests.datamodules.preparing.miniature_catalogue import small


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unzipped copy, without train ids."""
    real = CATALOGUE["cityscapes"]
    monkeypatch.setitem(CATALOGUE, "cityscapes", small(real, {"train": 4, "val": 2, "test": 1}, real.archives))
    return miniatures.cityscapes(tmp_path / "cityscapes")


def made(root: Path) -> list[Path]:
    return sorted(root.rglob("*_labelTrainIds.png"))


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    labels = np.arange(34, dtype=np.uint8)[None]
    path = save(tmp_path / "gtFine" / "val" / "ulm" / "ulm_0_0_gtFine_labelIds.png", labels)
    write_train_ids(tmp_path)
    (train,) = np.asarray(Image.open(path.with_name("ulm_0_0_gtFine_labelTrainIds.png")))
    assert [int(i) for i in np.argsort(train)[:19]] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    assert train[train != IGNORE].tolist() == list(range(19))


def test_an_unzipped_copy_is_converted(root: Path) -> None:
    with pytest.raises(ImageError, match=r"val: expected a mask for each image, found none for 2 .*labelTrainIds\.png"):
        prepare("cityscapes", root, verify_only=True)
    assert "train        4 images" in prepare("cityscapes", root)
    assert len(made(root)) == 6
    for path in made(root):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), miniatures.mask([255, 0, 1, 18]))
    prepare("cityscapes", root, verify_only=True)


def test_a_broken_conversion_is_found_and_mended(root: Path) -> None:
    write_train_ids(root)
    missing, half, ours, *_ = made(root)
    missing.unlink()
    half.write_bytes(half.read_bytes()[:60])
    save(ours, miniatures.mask([255, 1, 1, 18]))
    prepare("cityscapes", root)
    for path in (missing, half):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), miniatures.mask([255, 0, 1, 18]))
    np.testing.assert_array_equal(np.asarray(Image.open(ours)), miniatures.mask([255, 1, 1, 18]))  # readable: it stays


def test_train_ids_are_verified(root: Path) -> None:
    write_train_ids(root)
    half, small, unknown, *_ = made(root)
    half.write_bytes(half.read_bytes()[:60])
    save(small, np.zeros((3, 4), np.uint8))
    save(unknown, miniatures.mask([255, 0, 1, 19]))
    with pytest.raises(ImageError) as error:
        prepare("cityscapes", root, verify_only=True)
    for expected in (
        f"{half}: expected a mask",
        "as in its image, found 4×3",
        "expected ids 0–18 and 255, found [19]",
    ):
        assert expected in str(error.value)


def test_a_conversion_that_is_killed_leaves_no_half_mask(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(image: Image.Image, path: Path, *_: object) -> None:
        path.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        cityscapes_labels.write_train_ids(root)
    assert made(root) == []
