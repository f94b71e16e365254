"""Damaged files over format × type × damage: one `ImageError` with the file's name; none silent, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.folder import FolderDataModule
from datamodules.folder.summary import summarise
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.masks import mask_ids
from datamodules.reading.sources import Files
from tests.datamodules.pictures import gradient, save

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
DEEP = NOISE.astype(np.uint16) * 256
GREY, IDS = NOISE[..., 0], NOISE[..., 0] // 32

IMAGES: dict[str, Callable[[Path], object]] = {
    "jpeg.jpg": lambda path: Image.fromarray(NOISE).save(path),
    "colour.png": lambda path: Image.fromarray(NOISE).save(path),
    "palette.png": lambda path: Image.fromarray(NOISE).quantize(200).save(path),
    "deep.png": lambda path: cv2.imwrite(str(path), DEEP),
    "grey.png": lambda path: cv2.imwrite(str(path), DEEP[..., 0]),
    "raw.tif": lambda path: Image.fromarray(NOISE).save(path),
    "lzw.tif": lambda path: Image.fromarray(NOISE).save(path, compression="tiff_lzw"),
    "deep.tif": lambda path: cv2.imwrite(str(path), DEEP),
    "grey.tif": lambda path: Image.fromarray(DEEP[..., 0]).save(path),
    "float.tif": lambda path: Image.fromarray(GREY.astype(np.float32)).save(path),
    "turned.tif": lambda path: Image.fromarray(NOISE).save(path, tiffinfo={274: 6}),
    "webp.webp": lambda path: Image.fromarray(NOISE).save(path),
    "bitmap.bmp": lambda path: Image.fromarray(NOISE).save(path),
    "map.ppm": lambda path: Image.fromarray(NOISE).save(path),
    "deep.ppm": lambda path: cv2.imwrite(str(path), DEEP),
    "first.gif": lambda path: Image.fromarray(GREY).save(path),
    "wavelets.jp2": lambda path: Image.fromarray(NOISE).save(path),
}
MASKS: dict[str, Callable[[Path], object]] = {
    "ids.png": lambda path: Image.fromarray(IDS).save(path),
    "wide.png": lambda path: Image.fromarray(IDS.astype(np.uint16)).save(path),
    "ids.tif": lambda path: Image.fromarray(IDS).save(path),
    "wide.tif": lambda path: Image.fromarray(IDS.astype(np.int32)).save(path, compression="tiff_lzw"),
    "ids.bmp": lambda path: Image.fromarray(IDS).save(path),
    "ids.gif": lambda path: Image.fromarray(IDS).save(path),
    "ids.pgm": lambda path: Image.fromarray(IDS).save(path),
}


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * share)])


def header_zeroed(path: Path) -> None:
    path.write_bytes(bytes(64) + path.read_bytes()[64:])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": cut(0),
    "cut to 10 %": cut(0.1),
    "cut to half": cut(0.5),
    "cut to 90 %": cut(0.9),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "header zeroed": header_zeroed,
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "a folder": folder,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", IMAGES)
def test_damaged_images_are_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    IMAGES[name](path)
    assert read_image(path).shape == (64, 64, 3)
    DAMAGE[damage](path)
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: expected an image, found")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", MASKS)
def test_damaged_masks_are_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    MASKS[name](path)
    assert mask_ids(path) == set(range(8))
    DAMAGE[damage](path)
    with pytest.raises(ImageError) as error:
        mask_ids(path)
    assert str(error.value).startswith(f"{path}: expected a mask, found")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "gif", "ppm", "bmp", "webp"])
def test_a_wrong_suffix_changes_nothing(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(NOISE).save(tmp_path / f"a.{suffix}", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), NOISE)
    Image.fromarray(IDS).save(tmp_path / f"m.{suffix}", format="PNG")
    assert mask_ids(tmp_path / f"m.{suffix}") == set(range(8))


def test_a_folder_of_them_is_summed_up_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i, damage in enumerate(DAMAGE):
        path = tmp_path / f"{i}.png"
        IMAGES["colour.png"](path)
        DAMAGE[damage](path)
    save(tmp_path / "good.png", gradient(64, 64))
    files = Files(tmp_path, sorted(tmp_path.glob("*.png")))
    assert f"problems: {len(DAMAGE) - 1}" in summarise("train", files, [])  # the missing one is not listed
    source = FolderDataModule(tmp_path, size=8, on_error="skip").source("train")
    assert [source.name(i) for i in range(len(source))] == ["good.png"]
