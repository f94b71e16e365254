"""A user's own folder: every layout that is read, and what is said of folders that are not right."""

from __future__ import annotations

import logging
import os
import pathlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datamodules.folder import FolderDataModule
from datamodules.reading.errors import ImageError
from datamodules.reading.sources import Files
from tests.coloured_blocks import trainer
from tests.datamodules import miniatures
from tests.datamodules.pictures import gradient, labelled_folder, save


def names(data: FolderDataModule, split: str) -> list[str]:
    source = data.source(split)  # type: ignore[arg-type]
    return [source.name(i) for i in range(len(source))]


def test_images_alone_are_all_used_for_views(tmp_path: Path) -> None:
    for name in ("b c.png", "ä/1.bmp", "ä/deeper/2.tif"):
        save(tmp_path / name, gradient(20, 20))
    data = FolderDataModule(tmp_path, size=16, num_workers=0)
    assert names(data, "train") == ["b c.png", "ä/1.bmp", "ä/deeper/2.tif"]
    (crops,) = data.train_dataloader()
    assert sorted(crops.indices.tolist()) == [0, 1, 2]


def test_split_folders_are_used_as_they_are(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path, train=4, val=2)
    data = FolderDataModule(root, task="segment", size=12, num_workers=0)
    assert names(data, "train") == [f"images/train/00{i}.png" for i in range(4)]
    assert names(data, "val") == [f"images/val/00{i}.png" for i in range(2)]
    assert len(FolderDataModule(root).source("train")) == 4


@pytest.mark.parametrize("lists", [False, True])
def test_train_alone_is_evaluated_on_a_fifth_of_it_and_predicted(tmp_path: Path, lists: bool) -> None:
    root = labelled_folder(tmp_path / "data", val=0)
    if lists:
        (root / "train.txt").write_text("".join(f"train/00{i}\n" for i in range(10)))
    missing = r"val\.txt: expected a list" if lists else "images/val: expected a folder"
    data = FolderDataModule(root, task="segment", size=8)
    data.trainer = trainer(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=f"{missing} of images next to .* found nothing; .*: holdout"):
        data.setup("fit")
    data = FolderDataModule(root, task="segment", size=8, evaluate_on="holdout")
    data.trainer = trainer(tmp_path / "run")
    data.setup("fit")
    assert len(names(data, "train")) == 8 and len(names(data, "val")) == 2
    report = (tmp_path / "run" / "data.txt").read_text()
    assert "train: 10 images" in report and "val:" not in report
    assert len(data.predict_source()) == 10


def test_splits_may_hold_images_and_masks_themselves(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save(tmp_path / split / "images" / "sub" / "x.png", gradient(8, 8))
        save(tmp_path / split / "masks" / "sub" / "x.tif", np.zeros((8, 8), np.uint8))
    data = FolderDataModule(tmp_path, task="segment", size=8, num_workers=0)
    assert names(data, "val") == ["val/images/sub/x.png"] and data.num_classes == 1


def test_an_unsplit_folder_keeps_a_fixed_fifth_for_validation(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / f"{i}.png", gradient(8, 8))
        save(tmp_path / "masks" / f"{i}.png", np.full((8, 8), i % 2, np.uint8))
    data = [FolderDataModule(tmp_path, task="segment", size=8, seed=s) for s in (0, 1)]
    assert len(names(data[0], "val")) == 2 and names(data[0], "val") == names(data[1], "val")
    assert sorted(names(data[0], "train") + names(data[0], "val")) == [f"{i}.png" for i in range(10)]
    pretraining = names(FolderDataModule(tmp_path, size=8), "train")
    assert pretraining == names(data[0], "train")  # validation images are not seen before they are judged


def test_no_masks_at_all_leave_pre_training_and_prediction(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"{i}.png", gradient(10 + i, 8))
    with pytest.raises(FileNotFoundError, match="masks: expected a folder with a mask"):
        FolderDataModule(tmp_path, class_names=["a"], task="segment", size=8).source("val")
    with pytest.raises(ImageError, match="give class_names"):
        _ = FolderDataModule(tmp_path, task="segment").class_names
    (batch,) = FolderDataModule(tmp_path, class_names=["a"], task="segment", size=8, num_workers=0).predict_dataloader()
    assert batch.names == [f"{i}.png" for i in range(5)]
    assert [mask.shape for mask in batch.masks] == [(10 + i, 8) for i in range(5)]
    assert all((mask == 255).all() for mask in batch.masks)


def test_bad_files_are_skipped_and_counted_when_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", gradient(16, 16))
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1\.png: expected an image"):
        FolderDataModule(tmp_path, size=8).source("train")
    assert names(FolderDataModule(tmp_path, size=8, on_error="skip"), "train") == ["0.png", "2.png"]
    assert "1.png: expected an image" in caplog.text and "skipped 1 of 3 files" in caplog.text
    for i in (0, 2):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="at least one readable image, found 3 bad files"):
        FolderDataModule(tmp_path, size=8, on_error="skip").source("train")


def test_folders_without_images_say_so_before_training(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected images"):
        FolderDataModule(tmp_path).setup("fit")
    with pytest.raises(FileNotFoundError, match="expected a folder of images, found nothing"):
        FolderDataModule(tmp_path / "gone").setup("fit")


def test_too_few_images_to_split_are_said_so(tmp_path: Path) -> None:
    save(tmp_path / "a.png", gradient(8, 8))
    save(tmp_path / "masks" / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(ImageError, match="expected 5 images or more"):
        FolderDataModule(tmp_path, task="segment").source("val")


def test_lists_say_which_images_are_in_a_split(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path, train=4, val=2)
    (root / "train.txt").write_text("train/3\n\nimages/val/1.png\ntrain/0.png\n")
    (root / "val.txt").write_text("val/0\n")
    data = FolderDataModule(root, task="segment", size=8, cache=False)
    assert names(data, "train") == ["images/train/3.png", "images/val/1.png", "images/train/0.png"]
    assert names(data, "val") == ["images/val/0.png"]
    np.testing.assert_array_equal(data.source("train").pair(1)[1], miniatures.mask([0, 1, 2]))


def test_a_line_that_names_no_image_or_several_is_quoted(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    (root / "train.txt").write_text("train/0\nno/such image.png\n")
    with pytest.raises(ImageError, match=r"train\.txt, line 2: .* found none called 'no/such image\.png'; correct"):
        FolderDataModule(root).source("train")
    save(root / "images" / "train" / "0.jpg", gradient(8, 8))
    with pytest.raises(ImageError, match=r"line 1: .* found 0\.jpg, 0\.png called 'train/0'"):
        FolderDataModule(root).source("train")
    (root / "train.txt").write_text(" \n")
    with pytest.raises(ImageError, match="the name of an image on each line, found none"):
        FolderDataModule(root).source("train")
    with pytest.raises(FileNotFoundError, match=r"val\.txt: expected a list of images next to train\.txt"):
        FolderDataModule(root, task="segment").source("val")


def test_an_image_in_both_lists_is_named_whichever_split_is_read(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    (root / "train.txt").write_text("train/0\ntrain/1\n")
    (root / "val.txt").write_text("val/0\ntrain\\1.png\n")
    for task, split in (("pretrain", "train"), ("segment", "train"), ("segment", "val")):
        data = FolderDataModule(root, task=task, size=8)  # type: ignore[arg-type]
        with pytest.raises(
            ImageError, match=r"val\.txt, line 2: .* found 'train.*1\.png', which is in .*, line 2 already"
        ):
            names(data, split)


def test_lists_leave_at_most_120_bytes_an_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = [f"some_longer_image_name_{i:08d}" for i in range(2000)]
    for line in lines:
        (tmp_path / "images" / f"{line}.jpg").touch()
    (tmp_path / "train.txt").write_text("\n".join(lines))
    FolderDataModule(tmp_path).read("train")  # what is imported or compiled once is no part of it
    data = FolderDataModule(tmp_path)
    tracemalloc.start()
    source = data.read("train")
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    # pathlib interns names: the interpreter's table of them may grow by megabytes at any path
    others = snapshot.filter_traces([tracemalloc.Filter(inclusive=False, filename_pattern=pathlib.__file__)])
    kept = sum(trace.size for trace in others.traces)
    assert isinstance(source, Files) and (kept + source.images.nbytes) / len(source) <= 120


def test_a_fit_tells_what_was_found_and_a_resume_keeps_it_in_the_run_folder(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path / "data", train=5, val=2)
    save(root / "images" / "train" / "3.png", gradient(20, 20))  # its mask is larger
    run = trainer(tmp_path / "run")
    data = FolderDataModule(root, task="segment", size=8, num_workers=0, on_error="skip")
    data.trainer = run
    data.setup("fit")
    text = (tmp_path / "run" / "data.txt").read_text()
    assert text.splitlines()[:3] == [str(root), "train: 5 images", "  width 48, height 40 pixels"]
    assert (
        "class 1  33.33%" in text and "problems: 1\n" in text and "3.png: expected a mask of its image's size" in text
    )
    assert len(data.source("train")) == 4
    (tmp_path / "run" / "data.txt").write_text("of an earlier run")
    data.resumes = True
    data.setup("fit")
    assert (tmp_path / "run" / "data.txt").read_text() == "of an earlier run"
    data.resumes = False
    data.setup("fit")
    assert (tmp_path / "run" / "data.txt").read_text() == text


@pytest.fixture
def no_log() -> Iterator[None]:
    """Nothing is logged: pytest-xdist could not send a log with names that are no UTF-8."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("no_log")
def test_names_that_are_not_utf8_are_read_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "data" / os.fsdecode(b"B\xe4ume")  # as zips made on Windows leave them
    good, bad = (folder / os.fsdecode(b"%c\xf6.png" % letter) for letter in b"ab")
    save(good, gradient(8, 8))
    bad.write_bytes(b"no image")
    data = FolderDataModule(tmp_path / "data", size=8, num_workers=0, on_error="skip")
    data.trainer = trainer(tmp_path / "run")
    data.setup("fit")
    report = (tmp_path / "run" / "data.txt").read_text(encoding="utf-8")
    found = "an image, found a file that can't be read (cannot identify image file); replace"
    assert f"{tmp_path}/data/B\\udce4ume/b\\udcf6.png: expected {found}" in report
    assert names(data, "train") == [os.fsdecode(b"B\xe4ume/a\xf6.png")]
    np.testing.assert_array_equal(data.source("train").image(0), gradient(8, 8))


def test_a_split_that_is_wrong_is_said_before_images_are_decoded(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path / "data", train=4, val=2)
    (root / "images" / "train" / "000.png").write_bytes(b"no image")
    (root / "masks" / "val" / "001.png").unlink()
    for run in (None, tmp_path / "run"):
        data = FolderDataModule(root, ["a", "b", "c"], task="segment", size=8)
        data.trainer = None if run is None else trainer(run)
        with pytest.raises(ImageError, match=r"val/001\.png: expected one mask"):
            data.setup("fit")
