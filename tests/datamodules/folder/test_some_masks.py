"""A folder of which only some images have masks, in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderDataModule
from datamodules.reading.errors import ImageError


def painted(folder: Path, names: list[str], masks: bool) -> None:
    for number, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((20, 24) if masks else (20, 24, 3), number % 2 if masks else 10 * number, np.uint8)
        Image.fromarray(pixels).save(path)


LAYOUTS = {
    "flat": ("", "", [f"{n}" for n in range(12)], [f"{n}" for n in (1, 3, 4, 7, 8, 9)]),
    "images folder": ("images", "", [f"deep/{n}" for n in range(12)], [f"deep/{n}" for n in range(6)]),
    "one split": ("", "", [f"train/{n}" for n in range(9)] + ["val/x"], ["train/2", "train/5"]),
    "splits": ("", "", [f"train/{n}" for n in range(9)] + ["val/x", "val/y"], ["train/2", "train/5", "val/y"]),
}


@pytest.mark.parametrize("inside", [False, True], ids=["elsewhere", "among the images"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_labelled_images_are_those_with_a_mask(tmp_path: Path, layout: str, inside: bool) -> None:
    below, _, images, masks = LAYOUTS[layout]
    root = tmp_path / "root"
    labels = root / below / "marked" if inside else tmp_path / "marked"
    painted(root / below, images, masks=False)
    painted(labels, masks, masks=True)
    data = FolderDataModule(root, masks=labels, task="segment", size=28, num_workers=0)
    source = data.labelled_source()
    found = [source.name(index).split(":")[-1].removesuffix(".png") for index in range(len(source))]
    assert [name.removeprefix("images/") for name in found] == sorted(masks)
    assert data.num_classes == 2 and {int(source.pair(i)[1].max()) for i in range(len(source))} == {0, 1}
    if "split" not in layout:
        kept = {split: len(data.read(split)) for split in ("train", "val")}
        assert kept == {"train": 5, "val": 1}
    unlabelled = FolderDataModule(root, masks=labels, size=28, num_workers=0)
    assert len(unlabelled.read("train")) == (9 if "split" in layout else 12)  # no mask is taken for an image


def test_masks_of_other_names_are_an_error(tmp_path: Path) -> None:
    painted(tmp_path / "root", ["a", "b"], masks=False)
    painted(tmp_path / "marked", ["c"], masks=True)
    with pytest.raises(ImageError, match=r"expected masks named like the images.*such as a\.png.*mask_ending"):
        FolderDataModule(tmp_path / "root", masks=tmp_path / "marked", task="segment").labelled_source()
