"""The masks of a user's own folder: which ids or colours are classes, and what is said of those that are not right."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules.folder import FolderDataModule
from datamodules.reading.errors import ImageError
from tests.datamodules import miniatures
from tests.datamodules.pictures import gradient, labelled_folder, save


def test_classes_are_read_from_the_masks_in_id_order(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "images" / f"{i}.png", gradient(8, 8))
        mask = np.full((8, 8), 7, np.uint8)
        mask[0, 0], mask[1, 1] = (3, 255) if i == 4 else (7, 7)
        save(tmp_path / "masks" / f"{i}.png", mask)
    data = FolderDataModule(tmp_path, task="segment", size=8, num_workers=0)
    assert data.class_names == ["class 3", "class 7"] and len(set(data.palette)) == 2
    pairs = [source.pair(i) for source in (data.source("train"), data.source("val")) for i in range(len(source))]
    values = {int(value) for _, mask in pairs for value in np.unique(mask)}
    assert values == {0, 1, 255}


def test_masks_of_0_and_255_ask_whether_255_is_a_class(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "images" / f"{i}.png", gradient(8, 8))
        save(tmp_path / "masks" / f"{i}.png", np.repeat(np.array([[0], [255]], np.uint8), 4, 0).repeat(8, 1))
    with pytest.raises(
        ImageError,
        match=r"two classes or more, found the ids 0, 255, of which ignored_ids leaves out 255; .*`ignored_ids: \[\]`",
    ):
        FolderDataModule(tmp_path, task="segment", size=8).setup("fit")
    given = ArgumentParser(exit_on_error=False)
    given.add_class_arguments(FolderDataModule, "data")
    options = {"root": str(tmp_path), "ignored_ids": [], "task": "segment", "size": 8, "cache": False}
    data = given.instantiate_classes(given.parse_object({"data": options})).data
    assert data.class_names == ["class 0", "class 255"]
    assert data.source("train").pair(0)[1][:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_masks_of_0_and_255_are_named_by_the_lines_that_the_message_gives(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "images" / f"{i}.png", gradient(8, 8))
        save(tmp_path / "masks" / f"{i}.png", np.repeat(np.array([[0], [255]], np.uint8), 4, 0).repeat(8, 1))
    with pytest.raises(ImageError) as error:
        _ = FolderDataModule(tmp_path, task="segment").class_names
    (tmp_path / "classes.yaml").write_text("\n".join(re.findall("`(- .*?)`", str(error.value))))
    data = FolderDataModule(tmp_path, task="segment", size=8, cache=False)
    assert data.class_names == ["background", "foreground"] and data.ids == [0, 255]
    assert data.source("train").pair(0)[1][:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_given_names_say_which_ids_may_occur(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path)
    data = FolderDataModule(root, class_names=["a", "b"], task="segment", size=8, cache=False)
    assert data.class_names == ["a", "b"]
    with pytest.raises(ImageError, match=r"masks/train/000\.png: expected ids 0, 1, 255, found 2 as well"):
        data.source("train").pair(0)
    ignoring = FolderDataModule(root, class_names=["b", "c"], ignored_ids=(0,), task="segment", size=8, cache=False)
    assert set(np.unique(ignoring.source("train").pair(0)[1])) == {0, 1, 255}


def test_as_many_classes_as_eight_bits_tell_apart_and_no_more(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "images" / f"{i}.png", gradient(20, 20))
        save(tmp_path / "masks" / f"{i}.png", np.arange(400, dtype=np.uint16).reshape(20, 20))
    with pytest.raises(ImageError, match=f"{tmp_path}: masks: expected at most 255 classes, found 399"):
        FolderDataModule(tmp_path, task="segment", size=8).source("train")
    names = [f"c{i}" for i in range(256)]
    with pytest.raises(ImageError, match="class_names: expected at most 255 classes, found 256"):
        FolderDataModule(tmp_path, class_names=names)
    assert FolderDataModule(tmp_path, names[:255], ignored_ids=(0, 255)).ids == [*range(1, 255), 256]


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path)
    save(root / "masks" / "train" / "002.png", np.zeros((24, 31), np.uint8))
    with pytest.raises(ImageError, match=r"masks/train/002\.png: .* 32×24 .*images/train/002\.png.*, found 31×24"):
        FolderDataModule(root, task="segment", size=8).source("train")


def test_an_image_without_mask_is_named(tmp_path: Path) -> None:
    root = labelled_folder(tmp_path)
    (root / "masks" / "val" / "001.png").unlink()
    with pytest.raises(ImageError, match=r"images/val/001\.png: expected one mask .*001\.png, found none"):
        FolderDataModule(root, task="segment", size=8).source("val")


@pytest.mark.parametrize("images", ["img", "images"])
@pytest.mark.parametrize("name", ["annotations", "labels", "gt"])
def test_masks_under_another_name_are_warned_of_once(tmp_path: Path, images: str, name: str) -> None:
    for i in range(5):
        save(tmp_path / images / f"{i}.png", gradient(8, 8))
    (tmp_path / name).mkdir()
    (tmp_path / name / "0.txt").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderDataModule(tmp_path).read("train")  # boxes in text files are no masks
    save(tmp_path / name / "0.png", np.zeros((8, 8), np.uint8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            FolderDataModule(tmp_path).read("train")
    (warned,) = caught
    assert f"{tmp_path / name}: expected masks in {tmp_path / 'masks'}, found this folder" in str(warned.message)
    with pytest.raises(ImageError, match=f"name the classes, found .*/{name}; rename it to {tmp_path / 'masks'} if"):
        _ = FolderDataModule(tmp_path, task="segment", size=8).class_names
    with pytest.raises(FileNotFoundError, match=f"masks: expected a folder with a mask .*, found .*/{name}; rename"):
        FolderDataModule(tmp_path, class_names=["a"], task="segment", size=8).source("train")


@pytest.mark.parametrize(
    ("images", "expected"), [("train", "masks/train"), ("images/train", "masks/train"), ("images", "masks")]
)
def test_masks_among_the_images_are_warned_of(tmp_path: Path, images: str, expected: str) -> None:
    for i in range(5):
        save(tmp_path / images / f"{i}.png", gradient(8, 8))
        save(tmp_path / images / "masks" / f"{i}.png", np.zeros((8, 8), np.uint8))
    inside, right = tmp_path / images / "masks", tmp_path / expected
    with pytest.warns(UserWarning, match=f"{inside}: expected masks in {right}, found this folder"):
        FolderDataModule(tmp_path).read("train")
    with pytest.raises(FileNotFoundError, match=f"{right}: expected a folder with a mask .*, found {inside}; rename"):
        FolderDataModule(tmp_path, class_names=["a"], task="segment", size=8).source("train")
    right.parent.mkdir(exist_ok=True)
    inside.rename(right)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderDataModule(tmp_path).read("train")


def test_a_palette_file_says_what_colours_mean(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    for path in root.rglob("masks/*/*.png"):
        colours = np.array([[10, 20, 30], [0, 0, 0], [60, 180, 75]], np.uint8)
        save(path, colours[miniatures.mask([0, 1, 2])])
    (root / "classes.yaml").write_text(
        '- {name: soil, colour: [10, 20, 30]}\n- {name: void, color: "#000000", ignore: true}\n'
        '- {name: crop, colour: "#3cb44b"}\n'
    )
    data = FolderDataModule(root, task="segment", size=8, cache=False)
    assert data.class_names == ["soil", "crop"] and data.palette == [(10, 20, 30), (60, 180, 75)]
    np.testing.assert_array_equal(data.source("val").pair(0)[1], miniatures.mask([0, 255, 1]))
    save(root / "masks" / "val" / "0.png", np.full((*miniatures.SIDES, 3), 9, np.uint8))
    with pytest.raises(ImageError, match=r"0\.png: expected only colours of classes\.yaml, found \(9, 9, 9\) as well"):
        data.source("val").pair(0)


def test_a_palette_file_may_name_ids(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    (root / "classes.yaml").write_text(
        "- {name: b, id: 2}\n- {name: a, id: 0, colour: [1, 2, 3]}\n- {name: c, id: 1, ignore: true}\n"
    )
    data = FolderDataModule(root, task="segment", size=8, cache=False)
    assert data.class_names == ["b", "a"] and data.palette[1] == (1, 2, 3)
    np.testing.assert_array_equal(data.source("val").pair(0)[1], miniatures.mask([1, 255, 0]))


def test_ignored_ids_need_no_entry_in_a_palette_file_and_lose_against_one(tmp_path: Path) -> None:
    root = miniatures.paired(tmp_path)
    save(root / "masks" / "val" / "0.png", miniatures.mask([0, 1, 9, 255]))
    (root / "classes.yaml").write_text("- {name: a, id: 0}\n- {name: b, id: 1}\n- {name: c, id: 2}\n")
    data = FolderDataModule(root, task="segment", size=8, ignored_ids=(9, 255, 0), cache=False)
    np.testing.assert_array_equal(data.source("val").pair(0)[1], miniatures.mask([0, 1, 255, 255]))
    with pytest.raises(ImageError, match="expected ids 0–2, 255, found 9 as well"):
        FolderDataModule(root, task="segment", size=8, cache=False).source("val").pair(0)


def test_masks_may_end_in_a_word_of_their_own(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / "images" / "deep" / f"{i}.jpg", gradient(8, 8))
        save(tmp_path / "masks" / "deep" / f"{i}_mask.png", np.full((8, 8), i % 2, np.uint8))
        save(tmp_path / "masks" / "deep" / f"{i}_vis.png", gradient(8, 8))  # no mask
    data = FolderDataModule(tmp_path, task="segment", size=8, mask_ending="_mask", cache=False)
    sources = [data.source("train"), data.source("val")]
    found = {source.name(i): int(source.pair(i)[1][0, 0]) for source in sources for i in range(len(source))}
    assert found == {f"images/deep/{i}.jpg": i % 2 for i in range(5)}
    with pytest.raises(ImageError, match=r"expected masks whose names end in '_seg' \(mask_ending\) that name"):
        _ = FolderDataModule(tmp_path, task="segment", mask_ending="_seg").class_names


def test_two_images_do_not_share_a_mask(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png", *(f"{i}.png" for i in range(5))):
        save(tmp_path / "images" / name, gradient(8, 8))
        save(tmp_path / "masks" / f"{name[0]}.png", np.eye(8, dtype=np.uint8))
    with pytest.raises(ImageError, match=r"a\.png: expected a mask of its own, found that of a\.jpg"):
        FolderDataModule(tmp_path, task="segment", size=8).setup("fit")
    FolderDataModule(tmp_path / "images", size=8).setup("fit")  # without masks they are two images


@pytest.mark.parametrize(("key", "value"), [("ignored_ids", "abc"), ("class_ids", "abc"), ("mask_ending", [1])])
def test_arguments_of_its_own_are_checked_by_the_command_line(key: str, value: object, tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FolderDataModule, "data")
    arguments = {"root": str(tmp_path), key: value}
    with pytest.raises(Exception, match=key):
        parser.parse_object({"data": {"class_path": "datamodules.folder.FolderDataModule", "init_args": arguments}})
