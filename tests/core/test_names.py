"""A name is one part of a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.names import path_part

BAD = [
    "", " ", ".", "..", "../x", "../../x", "/abs", "/", "a/b", "a/", "a/..", "./a", "a\\b", "\\", "..\\x", "C:\\x",
    "-a", "-", "--runs", ".hidden", "a\0b", "\0", "a\nb", "a\n", "\na", "a\tb", "a\x1bb", "a\u202eb", "a\u2028b",
    "a\udcffb", " a", "a ", "a" * 256, "ü" * 128, "字" * 86,
]  # fmt: skip
GOOD = ["a", "camvid", "main-mini", "a.b", "a b", "2024", "größe", "字" * 85, "a" * 255, "ü" * 127, "_a", "a..b"]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_is_no_single_part_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"^study: expected one folder name, found ") as caught:
        path_part(name, "study")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


@pytest.mark.parametrize("name", [None, True, [], ["a"], {"a": 1}, b"a"], ids=repr)
def test_what_is_no_text_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="expected one folder name"):
        path_part(name, "study")


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_a_single_part_is_a_folder_of_that_name(name: str, tmp_path: Path) -> None:
    assert path_part(name, "study") == name
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_number_of_a_yaml_is_its_text() -> None:
    assert path_part(2024, "study") == "2024"
    with pytest.raises(ValueError, match="begins with '-'"):
        path_part(-1, "study")
