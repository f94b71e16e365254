"""A folder read in the classes of a trained head, whatever ids its own masks hold."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from datamodules.camvid import CamVidDataModule
from datamodules.folder import FolderDataModule
from datamodules.reading.errors import ImageError
from src.core.errors import UserError
from tests.datamodules.pictures import gradient, save


def site(root: Path, ids: list[int]) -> Path:
    for i in range(5):
        save(root / "images" / f"{i}.png", gradient(6, 12))
        save(root / "masks" / f"{i}.png", np.repeat(np.array([ids], np.uint8), 6, 0).repeat(12 // len(ids), 1))
    return root


def folder(root: Path, names: list[str] | None = None, **shared: object) -> FolderDataModule:
    return FolderDataModule(root, names, task="segment", size=8, num_workers=0, **shared)


def stripes(data: FolderDataModule) -> list[int]:
    """The classes of a mask from left to right."""
    return list(dict.fromkeys(data.source("val").pair(0)[1][0].tolist()))


@pytest.mark.parametrize("read_before", [False, True])
def test_a_site_without_a_class_lists_it_as_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read_before: bool
) -> None:
    head = folder(site(tmp_path / "train", [0, 3, 7]))
    assert head.class_ids == [0, 3, 7] and head.class_names == ["class 0", "class 3", "class 7"]
    data = folder(site(tmp_path / "site", [3, 7]))
    if read_before:
        assert stripes(data) == [0, 1]  # numbered by what this folder holds
    data.expect_classes(head.class_ids, head.class_names)
    with caplog.at_level(logging.INFO):
        data.setup("test")
    assert stripes(data) == [1, 2] and data.num_classes == 3
    assert "val: absent classes: 0 class 0" in caplog.text


@pytest.mark.parametrize("stage", ["test", "validate"])
def test_ids_that_the_head_does_not_know_are_named_with_their_file(tmp_path: Path, stage: str) -> None:
    data = folder(site(tmp_path, [1, 2, 3]))
    data.expect_classes([0, 1, 2], ["class 0", "class 1", "class 2"])
    with pytest.raises(ImageError, match=r"masks/\d\.png: expected the class ids that the head .* found 3; correct"):
        data.setup(stage)
    ignoring = folder(tmp_path, ignored_ids=(3, 255))
    ignoring.expect_classes([0, 1, 2], ["class 0", "class 1", "class 2"])
    assert stripes(ignoring) == [1, 2, 255]


def test_prediction_needs_neither_names_nor_masks(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", gradient(6, 12))
    data = folder(tmp_path)
    data.expect_classes([4, 9], ["soil", "crop"])
    data.setup("predict")
    assert data.class_names == ["soil", "crop"] and data.ids == data.class_ids == [4, 9] and len(data.palette) == 2
    (batch,) = data.predict_dataloader()
    assert len(batch.names) == 3


@pytest.mark.parametrize(
    ("own", "head", "accepted"),
    [
        (["polyp", "ulcer"], ["a", "b"], False),  # the same number, another meaning
        (["a", "b"], ["a", "b"], True),
        (["a"], ["a", "b"], True),
        (["a", "b", "c"], ["a", "b"], False),
        (["class 0", "b"], ["a", "b"], True),  # a class that nobody named
    ],
)
def test_names_are_compared_where_the_user_gives_them(
    tmp_path: Path, own: list[str], head: list[str], accepted: bool
) -> None:
    data = folder(site(tmp_path, [0, 1] if len(own) > 1 else [0]), own)
    if accepted:
        data.expect_classes(range(len(head)), head)
        assert data.class_names == head
    else:
        with pytest.raises(UserError, match="expected the classes that the head was trained on, 0 a, 1 b, found "):
            data.expect_classes(range(len(head)), head)


def test_coloured_masks_go_by_name(tmp_path: Path) -> None:
    root = site(tmp_path, [0, 1])
    colours = np.array([[9, 9, 9], [200, 0, 0]], np.uint8)
    for i in range(5):
        save(root / "masks" / f"{i}.png", colours[np.arange(12) // 6][None].repeat(6, 0))
    (root / "classes.yaml").write_text(
        "- {name: crop, colour: [9, 9, 9]}\n- {name: soil, colour: [200, 0, 0]}\n"
        "- {name: none, colour: [0, 0, 0], ignore: true}\n"
    )
    data = folder(root)
    assert stripes(data) == [0, 1]
    data.expect_classes([0, 1, 2], ["soil", "tree", "crop"])
    assert stripes(data) == [2, 0] and data.palette[0] == (200, 0, 0)
    with pytest.raises(UserError, match="found 1 soil"):
        data.expect_classes([0, 1], ["crop", "tree"])


def test_listed_ids_keep_what_is_ignored(tmp_path: Path) -> None:
    root = site(tmp_path, [1, 2, 5])
    (root / "classes.yaml").write_text("- {name: a, id: 1}\n- {name: b, id: 2}\n- {name: c, id: 5, ignore: true}\n")
    data = folder(root)
    data.expect_classes([2, 1], ["b", "a"])
    assert stripes(data) == [1, 0, 255]


def test_other_data_sets_have_the_classes_they_have(tmp_path: Path) -> None:
    data = CamVidDataModule(tmp_path, task="segment")
    data.expect_classes(data.class_ids, data.class_names)
    with pytest.raises(UserError, match=r"CamVidDataModule: expected the classes .*, 0 a, found 0 sky, 1 building"):
        data.expect_classes([0], ["a"])


def test_ids_can_be_given_with_their_names(tmp_path: Path) -> None:
    root = site(tmp_path, [3, 7])
    data = folder(root, ["a", "b"], class_ids=[7, 3])
    assert data.class_ids == [7, 3] and stripes(data) == [1, 0]
    again = folder(root, ["class 3", "class 7"], class_ids=[3, 7])  # as a run writes what it resolved
    again.expect_classes([3, 7], ["class 3", "class 7"])
    assert stripes(again) == [0, 1]
    for ids in ([7], [7, 7]):
        with pytest.raises(UserError, match="class_ids: expected one distinct id for each"):
            folder(root, ["a", "b"], class_ids=ids)
