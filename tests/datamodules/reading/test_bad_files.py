"""Bad files of every kind: one message that names the file, from any process and for any data set, or a count."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.ade20k import ADE20KDataModule
from datamodules.base import DomainDataModule
from datamodules.camvid import CamVidDataModule
from datamodules.cityscapes import CityscapesDataModule
from datamodules.cwfid import CWFIDDataModule
from datamodules.folder import FolderDataModule
from datamodules.loveda import LoveDADataModule
from datamodules.pascal_context import PascalContextDataModule
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.listing import list_images
from datamodules.scenes import ScenesDataModule
from tests.datamodules import miniatures
from tests.datamodules.pictures import gradient, save

MODULES: dict[str, Callable[..., DomainDataModule]] = {
    "ade20k": ADE20KDataModule,
    "pascal_context": PascalContextDataModule,
    "cityscapes": CityscapesDataModule,
    "loveda": LoveDADataModule,
    "camvid": CamVidDataModule,
    "cwfid": CWFIDDataModule,
    "folder": FolderDataModule,
}


def nan(path: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(path, format="TIFF")


def enormous(path: Path) -> None:
    """A header of 20,000×20,000 pixels is enough to be refused."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def circle(path: Path) -> None:
    path.symlink_to(path)


def text(path: Path) -> None:
    path.write_text("hello")


def empty(path: Path) -> None:
    path.touch()


BAD = {
    nan: "pixels that are NaN or infinite",
    enormous: r"at most 178,956,970 pixels, found one of 400,000,000; cut it into tiles",
    circle: "a broken or circular symbolic link",
    text: "a file that can't be read",
    empty: "an empty file",
}


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Takes all rights on a path; the superuser, who has them anyway, becomes somebody else for the while."""
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o755)


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_one_message_names_the_file_from_any_process(tmp_path: Path, spoil: Any, num_workers: int) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", gradient(16, 16))
    bad = tmp_path / "ein Bild, schön; 图.png"
    spoil(bad)
    loader = FolderDataModule(tmp_path, size=8, batch_size=4, num_workers=num_workers, cache=False).train_dataloader()
    with pytest.raises(ImageError, match=BAD[spoil]) as error:
        list(loader)
    assert str(error.value).startswith(f"{bad}: expected an image") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("task", ["pretrain", "segment"])
def test_every_data_set_stops_at_a_bad_file_or_skips_and_counts_it(
    tmp_path: Path, name: str, task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    root = miniatures.WRITERS[name](tmp_path)
    source = MODULES[name](root, task=task, size=16, cache=False).source("train")
    assert len(source) == 4
    bad = root / source.name(2)
    bad.write_bytes(b"no image")
    with pytest.raises(ImageError, match=f"{bad.name}: expected an image"):
        MODULES[name](root, task=task, size=16, num_workers=0).source("train")
    skipping = MODULES[name](root, task=task, size=16, on_error="skip", cache=False).source("train")
    assert [skipping.name(i) for i in range(len(skipping))] == [source.name(i) for i in (0, 1, 3)]
    assert f"{bad.name}: expected an image" in caplog.text and "skipped 1 of 4 files" in caplog.text


@pytest.mark.parametrize("name", MODULES)
def test_an_image_without_a_mask_is_an_error_or_skipped_and_counted(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = miniatures.WRITERS[name](tmp_path)
    whole = MODULES[name](root, task="segment", size=16, cache=False).source("train")
    mask = whole.masks[2]
    mask.unlink()
    with pytest.raises(ImageError, match=rf"{mask.name}.*found (none|nothing)"):
        MODULES[name](root, task="segment", size=16).source("train")
    skipping = MODULES[name](root, task="segment", size=16, on_error="skip", cache=False).source("train")
    assert [skipping.name(i) for i in range(len(skipping))] == [whole.name(i) for i in (0, 1, 3)]
    assert f"{mask}: expected a mask, found no file" in caplog.text and "skipped 1 of 4 files" in caplog.text


def test_names_pair_however_their_letters_are_composed(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    composed, decomposed = (unicodedata.normalize(form, "bäume") for form in ("NFC", "NFD"))
    (root / "images" / "train" / "1.png").rename(root / "images" / "train" / f"{composed}.png")
    (root / "masks" / "train" / "1.png").rename(root / "masks" / "train" / f"{decomposed}.png")
    source = CamVidDataModule(root, task="segment", cache=False).source("train")
    assert source.masks[[source.name(i) for i in range(4)].index(f"images/train/{composed}.png")].stem == decomposed


def test_an_image_with_two_masks_is_skipped(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    save(root / "masks" / "train" / "1.tif", np.zeros(miniatures.SIDES, np.uint8))
    with pytest.raises(ImageError, match=r"1\.png: expected one mask .*1\.png, found 1\.png, 1\.tif"):
        CamVidDataModule(root, task="segment").source("train")
    assert len(CamVidDataModule(root, task="segment", on_error="skip", cache=False).source("train")) == 3


def test_a_bad_mask_is_skipped_with_its_image_where_masks_are_read(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    save(root / "masks" / "train" / "1.png", np.full(miniatures.SIDES, 77, np.uint8))
    assert len(CamVidDataModule(root, task="segment", on_error="skip", cache=False).source("train")) == 3
    assert len(CamVidDataModule(root, task="pretrain", on_error="skip", cache=False).source("train")) == 4


def test_files_in_extra_folders_are_seen_in_pre_training_and_skipped_like_others(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / "more" / "deeper" / f"{i}.png", gradient(64, 64))
    (tmp_path / "more" / "2.png").touch()
    options: dict[str, Any] = {"train_images": 3, "side": 64, "extra": [tmp_path / "more"], "cache": False}
    source = ScenesDataModule(**options, on_error="skip").source("train")
    assert [source.name(i) for i in range(3, len(source))] == ["1:deeper/0.png", "1:deeper/1.png"]
    np.testing.assert_array_equal(source.image(4), gradient(64, 64))
    np.testing.assert_array_equal(source.image(2), ScenesDataModule(train_images=3, side=64).read("train").image(2))
    assert len(ScenesDataModule(**options, task="segment").source("train")) == 3


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own folders are closed to others
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    path = save(tmp_path / "closed" / "a.png", gradient(8, 8))
    with (
        without_rights(path),
        pytest.raises(ImageError, match=r"a\.png: .* without read permission; replace or remove"),
    ):
        read_image(path)
    closed = f"^{path.parent}: expected a readable folder, found: Permission denied; correct its permissions"
    deeper = save(path.parent / "one" / "images" / "b.png", gradient(8, 8)).parent
    for read in (
        lambda: list_images(tmp_path),
        lambda: list_images(deeper),
        lambda: FolderDataModule(deeper.parent).source("train"),
        lambda: FolderDataModule(deeper.parent, task="segment").class_names,
    ):
        with without_rights(path.parent), pytest.raises(ImageError, match=closed):
            read()


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    save(tmp_path / "dot.png", np.full((1, 1, 3), 7, np.uint8))
    data = FolderDataModule(tmp_path, size=8, num_workers=0, batch_size=1)
    with pytest.warns(UserWarning, match=r"dot\.png: 1×1 is smaller than a view"):
        (crops,) = data.train_dataloader()
    assert crops.global_views.images.shape[-1] == 8
