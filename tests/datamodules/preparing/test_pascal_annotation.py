"""Pascal Context: masks from its annotation, beside the images wherever a copy of VOC 2010 lies."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as runs

from datamodules.pascal_context import PascalContextDataModule
from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.pascal_annotation import CATEGORIES, semantic_mask, write_pascal_context
from datamodules.preparing.preparation import prepare
from tests.datamodules.pictures import gradient, save
from tests.datamodules.preparing.local_server import LocalServer, serving
from tests.datamodules.preparing.miniature_catalogue import png, serve, small

TAR, ANNOTATION = "VOCtrainval_03-May-2010.tar", "trainval_merged.json"
COUNTS = {"train": 1, "val": 1}
LOWER, CORNER = np.zeros((2, 4, 6), np.uint8)
LOWER[2:] = 1
CORNER[3:, 4:] = 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as state:
        serve(monkeypatch, state, "pascal_context", {TAR: voc(), ANNOTATION: annotation()}, COUNTS)
        yield state


def voc() -> bytes:
    """VOC's images; PNG inside, which no decoder minds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i in (7, 8, 9):
            content = png(gradient(4, 6))
            info = tarfile.TarInfo(f"VOCdevkit/VOC2010/JPEGImages/{i}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def segments() -> list[dict]:
    return [
        {"image_id": 7, "category_id": category, "segmentation": _runs(area)}
        for category, area in ((2, LOWER), (458, CORNER), (3, np.ones((4, 6), np.uint8) - LOWER))
    ]


def annotation() -> bytes:
    images = [
        {"image_id": i, "phase": phase, "file_name": f"{i}.jpg", "height": 4, "width": 6}
        for i, phase in ((7, "train"), (8, "val"), (9, "test"))
    ]
    return json.dumps({"images": images, "annos_segmentation": segments()}).encode()


def _runs(area: np.ndarray) -> dict:
    encoded = runs.encode(np.asfortranarray(area))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def test_masks_follow_the_annotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = LOWER.copy()  # aeroplane is 1, the last of the 59 is 59, and 3 is none of them
    expected[3:, 4:] = 59
    np.testing.assert_array_equal(semantic_mask(segments(), 4, 6), expected)
    root = tmp_path / "root"
    (tmp_path / ANNOTATION).write_bytes(annotation())
    for i in (7, 8):
        save(root / "JPEGImages" / f"{i}.jpg", gradient(4, 6))
    write_pascal_context(tmp_path / ANNOTATION, root)
    monkeypatch.setitem(CATALOGUE, "pascal_context", small(CATALOGUE["pascal_context"], COUNTS))
    assert "1 images, 6×4, ids 0, 1, 59" in prepare("pascal_context", root, verify_only=True)
    assert (root / "ImageSets" / "SegmentationContext" / "val.txt").read_text() == "8\n"
    assert len(CATEGORIES) == 59 and list(CATEGORIES) == sorted(set(CATEGORIES))


def test_masks_lie_beside_the_images_of_an_unpacked_copy(tmp_path: Path, server: LocalServer) -> None:
    with tarfile.open(fileobj=io.BytesIO(voc())) as archive:
        archive.extractall(tmp_path, filter="data")
    del server.files[f"/{TAR}"]  # 1.3 GB that are there already
    prepare("pascal_context", tmp_path)
    assert (tmp_path / "VOCdevkit" / "VOC2010" / "SegmentationClassContext" / "7.png").is_file()
    assert not (tmp_path / "JPEGImages").exists()
    source = PascalContextDataModule(tmp_path, task="segment").source("val")
    assert source.name(0) == "VOCdevkit/VOC2010/JPEGImages/8.jpg"


def test_the_module_reads_what_was_prepared_beside_an_unpacked_copy(tmp_path: Path, server: LocalServer) -> None:
    prepare("pascal_context", tmp_path)
    with tarfile.open(fileobj=io.BytesIO(voc())) as archive:
        archive.extractall(tmp_path, filter="data")
    assert PascalContextDataModule(tmp_path, task="segment").source("train").name(0) == "JPEGImages/7.jpg"
    prepare("pascal_context", tmp_path, verify_only=True)


def test_an_annotation_that_was_fetched_by_hand_is_used_and_stays(tmp_path: Path, server: LocalServer) -> None:
    (tmp_path / ANNOTATION).write_bytes(server.files.pop(f"/{ANNOTATION}"))
    assert "1 images, 6×4, ids 0, 1, 59" in prepare("pascal_context", tmp_path)
    assert (tmp_path / ANNOTATION).is_file()


def test_a_missing_package_is_said_before_the_downloads(
    tmp_path: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"converting it needs pycocotools; pip install"):
        prepare("pascal_context", tmp_path)
    assert server.asked == []
