"""Only missing files are fetched; surplus ones are reported."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.counting import shortfalls
from datamodules.preparing.preparation import prepare
from datamodules.reading.errors import ImageError
from tests.datamodules import miniatures
from tests.datamodules.pictures import gradient, labelled_folder, save
from tests.datamodules.preparing.local_server import LocalServer, serving
from tests.datamodules.preparing.miniature_catalogue import serve, small, zipped


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as state:
        yield state


def test_only_the_archive_of_the_missing_split_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LocalServer
) -> None:
    root = miniatures.loveda(tmp_path / "loveda")
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "Test").rglob("*.png")}
    shutil.rmtree(root / "Test")
    serve(monkeypatch, server, "loveda", {"Test.zip": zipped(files)}, {"Train": 4, "Val": 2, "Test": 1})
    assert "Test         1 images" in prepare("loveda", root)
    assert len(server.asked) == 1


class TestCityscapes:
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        real = CATALOGUE["cityscapes"]
        monkeypatch.setitem(CATALOGUE, "cityscapes", small(real, {"train": 4, "val": 2, "test": 1}, real.archives))
        return miniatures.cityscapes(tmp_path)

    def test_a_missing_mask_asks_for_the_archive_of_masks_alone(self, root: Path) -> None:
        next(root.glob("gtFine/val/*/*_labelIds.png")).unlink()
        with pytest.raises(FileNotFoundError, match=r"gtFine_trainvaltest\.zip: expected this file"):
            prepare("cityscapes", root)

    def test_what_an_incomplete_copy_lacks_is_said_before_the_steps(self, root: Path) -> None:
        next(root.glob("leftImg8bit/test/*/*.png")).unlink()
        next(root.glob("leftImg8bit/val/*/*.png")).unlink()
        with pytest.raises(FileNotFoundError) as error:
            prepare("cityscapes", root)
        assert "leftImg8bit_trainvaltest.zip: expected this file" in str(error.value)
        for line in ("val: expected 2 images", "found 1; test: expected 1 images", "found 0); to get it:\n  1. make"):
            assert line in str(error.value)

    def test_masks_are_missed_where_their_images_are_missing_as_well(self, root: Path) -> None:
        shutil.rmtree(root / "leftImg8bit" / "val")
        assert {(one.split, one.part) for one in shortfalls(root, CATALOGUE["cityscapes"])} == {
            *((split, "derived masks") for split in ("train", "val")),
            ("val", "images"),
        }
        shutil.rmtree(root / "gtFine" / "val")
        missing = [one.line for one in shortfalls(root, CATALOGUE["cityscapes"]) if one.part == "masks"]
        assert missing == ["val: expected 2 masks gtFine/val/*/*_gtFine_labelIds.png, found 0"]


def test_images_that_are_there_are_not_fetched_for_want_of_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = small(CATALOGUE["pascal_context"], {"train": 4, "val": 2})
    base = miniatures.pascal_context(tmp_path) / "VOCdevkit" / "VOC2010"
    assert shortfalls(base, preparation) == []
    lists = base / "ImageSets" / "SegmentationContext"
    (lists / "val.txt").unlink()
    (lists / "train.txt").write_text("2008_000000\n")
    assert [(one.split, one.part, one.line[-7:]) for one in shortfalls(base, preparation)] == [
        ("train", "masks", "found 1"),
        ("val", "masks", "found 0"),
    ]


class TestSurplus:
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LocalServer) -> Path:
        serve(monkeypatch, server, "camvid", {}, {"train": 4, "val": 2})
        return labelled_folder(tmp_path, train=4, val=2)

    def test_what_a_system_leaves_behind_is_no_image(self, root: Path, server: LocalServer) -> None:
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
            (root / "images" / "train" / name).write_bytes(b"x")
        assert "train        4 images" in prepare("camvid", root) and server.asked == []

    @pytest.mark.parametrize("verify_only", [False, True])
    def test_an_image_too_many_is_said_without_a_download(
        self, root: Path, server: LocalServer, verify_only: bool
    ) -> None:
        save(root / "images" / "train" / "own.png", gradient(24, 32))
        (root / "images" / "val" / "000.png").unlink()
        message = r"train: expected 4 images images/train/\*, found 5; remove files that do not belong to the data set$"
        with pytest.raises(ImageError, match=message):
            prepare("camvid", root, verify_only)
        assert server.asked == []
