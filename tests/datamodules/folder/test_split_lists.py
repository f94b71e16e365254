"""Lists of names as people write them, on any system, and what is said of those that are wrong."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from datamodules.folder.split_lists import listed
from datamodules.reading.errors import ImageError

BASE = Path("/data/images")
IMAGES = [BASE / name for name in ("a.png", "deep/ä.jpg", "deep/c.d.tif")]


def write(folder: Path, train: bytes, val: bytes | None = None) -> list[Path]:
    lists = {"train.txt": train} | ({} if val is None else {"val.txt": val})
    for name, content in lists.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in lists]


@pytest.mark.parametrize(
    "content",
    [
        "deep/ä.jpg\na.png\n",
        "images/deep/ä\n\n  images/a  ",
        "\ufeffdeep/ä.jpg\r\na.png\r\n",
        "\ufeffimages\\deep\\ä.jpg\ra.png",
        unicodedata.normalize("NFD", "deep/ä\na"),
    ],
)
def test_names_are_understood_however_they_are_written(tmp_path: Path, content: str) -> None:
    assert listed(write(tmp_path, content.encode()), IMAGES, (BASE, BASE.parent)) == [[IMAGES[1], IMAGES[0]]]


def test_each_list_keeps_its_order(tmp_path: Path) -> None:
    lists = write(tmp_path, b"deep/c.d\na", "deep/ä".encode())
    assert listed(lists, IMAGES, (BASE, BASE)) == [[IMAGES[2], IMAGES[0]], [IMAGES[1]]]


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (b"a\n\ndeep/\xe4.jpg", b"a", r"train\.txt, line 3: expected a name in UTF-8, found b'deep/\\xe4\.jpg'; save"),
        ("a\n".encode("utf-16"), None, r"train\.txt, line 1: expected a name in UTF-8"),
        (b"a\nb", None, r"train\.txt, line 2: expected the name of one image, .* found none called 'b'; correct"),
        (b"a\ndeep/c.d\na.png", None, r"train\.txt, line 3: .* found 'a\.png', which is in .*train\.txt, line 1 al"),
        (b"a", b"deep/c.d\nimages/a", r"val\.txt, line 2: .* never in both training and validation, .* line 1 alr"),
        (b"a", b"\n \n", r"val\.txt: expected the name of an image on each line, found none"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path: Path, train: bytes, val: bytes | None, message: str) -> None:
    with pytest.raises(ImageError, match=message) as error:
        listed(write(tmp_path, train, val), IMAGES, (BASE, BASE.parent))
    assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


def test_a_name_of_several_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"found a\.png, a\.jpg called 'a'"):
        listed(write(tmp_path, b"a"), [*IMAGES, BASE / "a.jpg"], (BASE,))
