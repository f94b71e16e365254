"""Two processes that read the same images describe them alike, and others otherwise."""

from __future__ import annotations

from pathlib import Path

from datamodules.reading.fingerprint import fingerprint
from datamodules.reading.sources import Files


def files(root: str, names: list[str]) -> Files:
    return Files(Path(root), [Path(root, name) for name in names])


def test_the_folder_does_not_count_and_each_name_does() -> None:
    names = [f"{i}.png" for i in range(20)]
    found = fingerprint([files("/a", names)])
    assert found.startswith("20 images (") and found == fingerprint([files("/b/c", names)])
    for other in (names[:-1], [*names[:-1], "x.png"], [*names, "x.png"]):
        assert fingerprint([files("/a", other)]) != found


def test_of_very_many_names_some_are_compared() -> None:
    assert fingerprint([files("/a", [f"{i:06}.png" for i in range(200_000)])]).startswith("200000 images (")
