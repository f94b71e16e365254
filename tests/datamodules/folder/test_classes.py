"""Valid contents of `classes.yaml`, and the errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.folder.classes import FolderClass, classes_among, read_classes
from datamodules.reading.errors import ImageError


def test_entries_keep_their_order_and_ignored_ones_are_no_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text('- {name: a, id: 4}\n- {name: b, id: 0, ignore: true}\n- {name: c, id: 9, colour: "#0a0B0c"}\n')
    read = read_classes(path)
    assert read.entries[2] == FolderClass("c", 9, (10, 11, 12), ignore=False)
    assert [entry.name for entry in read.classes] == ["a", "c"]
    assert read.ids == [4, 9]
    assert read.by_colour == {}


def test_without_ids_colours_decide(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("- {name: a, colour: [1, 2, 3]}\n- {name: b, color: [0, 0, 0], ignore: true}\n")
    assert read_classes(path).by_colour == {(1, 2, 3): 0, (0, 0, 0): 255}
    assert read_classes(path).ids == [0]


def test_one_class_beside_ignored_ids_is_refused(tmp_path: Path) -> None:
    assert classes_among({7, 255, 0}, {255}, tmp_path) == [0, 7]
    with pytest.warns(UserWarning, match="found only the id 3, for which every score is perfect"):
        assert classes_among({3}, {255}, tmp_path) == [3]
    for found, lines in (({255}, "`- {name: class 255, id: 255}`$"), ({1, 255}, "`- {name: background, id: 1}` and ")):
        with pytest.raises(ImageError, match=f"of which ignored_ids leaves out 255.*{lines}"):
            classes_among(found, {255}, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "expected a list of classes in YAML"),
        ("name: a", "expected a list of entries such as"),
        ("- soil", "entry 1: expected {name: soil, id: 0} or"),
        ("- {name: a, id: 1}\n- {name: b, idd: 2}", "entry 2: expected {name: soil, id: 0} or"),
        ("- {name: a}", "entry 1: expected an id or a colour.*found neither"),
        ("- {name: a, id: -1}", "entry 1: expected an id from 0 to 65535, .* found -1"),
        ("- {name: a, id: true}", "expected an id from 0 to 65535, .* found True"),
        ("- {name: a, colour: [1, 2, 256]}", "entry 1: expected a colour as .*found .1, 2, 256"),
        ("- {name: a, colour: red}", "expected a colour as .*found 'red'"),
        ("- {name: a, id: 1, ignore: maybe}", "expected ignore to be true or false, found 'maybe'"),
        ("- {name: a, id: 1}\n- {name: b, colour: [0, 0, 0]}", "an id in all entries or in none, found 1 of 2"),
        ("- {name: a, id: 1}\n- {name: a, id: 2}", "expected each name once, found a twice"),
        ("- {name: a, id: 1}\n- {name: b, id: 1}", "expected each id once, found 1 twice"),
        ("- {name: a, id: 1, ignore: true}", "at least one entry that is not ignored"),
    ],
)
def test_mistakes_are_named_with_file_and_entry(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(ImageError, match=message) as error:
        read_classes(tmp_path / "classes.yaml")
    assert str(error.value).startswith(str(tmp_path / "classes.yaml")) and "\n" not in str(error.value)


def test_255_classes_are_the_most(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    entries = [f"- {{name: c{i}, id: {i}}}" for i in range(257)]
    path.write_text("\n".join([*entries[:255], "- {name: unknown, id: 255, ignore: true}"]))
    assert read_classes(path).ids == list(range(255)) and read_classes(path).ignored_ids == [255]
    path.write_text("\n".join(entries[:256]))
    with pytest.raises(ImageError, match=r"classes\.yaml: expected at most 255 classes, found 256; .* in 8 bits"):
        read_classes(path)
    assert classes_among(range(256), {255}, tmp_path) == list(range(255))
    with pytest.raises(ImageError, match=f"{tmp_path}: masks: expected at most 255 classes, found 400"):
        classes_among(range(400), (), tmp_path)
