"""Whole images with one class each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.folder.class_folders import ClassFolders, SceneClasses
from datamodules.reading.errors import ImageError
from src.core.errors import MissingFile
from src.core.file_contents import content_fingerprint


def write(folder: Path, name: str, colour: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), colour, np.uint8)).save(folder / name)


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "cat", "a.png", 10)
        write(tmp_path / split / "dog" / "deeper", "b.png", 200)
    data = ClassFolders(tmp_path, task="segment", size=14, num_workers=0)
    assert data.class_names == ["cat", "dog"]
    source = data.read("val")
    pairs = {source.name(index): source.pair(index) for index in range(len(source))}
    assert {name: (image[0, 0, 0], int(label)) for name, (image, label) in pairs.items()} == {
        "val/cat/a.png": (10, 0),
        "val/dog/deeper/b.png": (200, 1),
    }
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        assert label == int(image[0, 0, 0] > 100)


def test_folders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected the folders train/<class> and val/<class>"):
        _ = ClassFolders(tmp_path).class_names
    write(tmp_path / "train" / "cat", "a.png", 10)
    with pytest.raises(ImageError, match="expected 2 to 254 folders, one for each class, found 1"):
        _ = ClassFolders(tmp_path).class_names
    write(tmp_path / "train" / "dog", "a.png", 10)
    with pytest.raises(MissingFile, match="val: expected a folder of images, found nothing"):
        ClassFolders(tmp_path).read("val")
    write(tmp_path / "val" / "cow", "a.png", 10)
    with pytest.raises(
        ImageError, match=r"expected images in folders of the classes in .*, found 1 other, such as cow"
    ):
        ClassFolders(tmp_path).read("val")
    write(tmp_path / "train", "loose.png", 10)
    with pytest.raises(ImageError, match=r"such as loose\.png"):
        ClassFolders(tmp_path).read("train")


def test_a_replaced_image_is_noticed_and_a_hidden_folder_is_not(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write(tmp_path / "train" / name, "a.png", 10)
    before = content_fingerprint(ClassFolders(tmp_path).read("train"))
    write(tmp_path / "train" / ".thumbnails", "a.png", 10)
    assert content_fingerprint(ClassFolders(tmp_path).read("train")) == before
    write(tmp_path / "train" / "dog", "a.png", 11)
    assert content_fingerprint(ClassFolders(tmp_path).read("train")) != before


def test_a_scene_has_the_class_that_covers_most_of_it() -> None:
    data = SceneClasses(train_images=3, val_images=3, side=64)
    scenes, classes = super(SceneClasses, data).read("val"), data.read("val")
    for index in range(3):
        mask = scenes.pair(index)[1]
        counts = [(mask == label).sum() for label in range(data.num_classes)]
        assert classes.pair(index)[1] == np.argmax(counts)


def test_a_pre_training_on_classes_is_monitored_without_masks(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e", "f"):
        write(tmp_path / "train" / name, "x.png", 10)
    data = ClassFolders(tmp_path, task="pretrain", size=14, num_workers=0)
    sample = data.monitor_sample(images=2, labelled=6)
    assert sample.crops.global_views.images.shape[:2] == (2, 2) and sample.bank is None and sample.queries is None
