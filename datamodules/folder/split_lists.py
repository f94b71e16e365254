"""Split lists `train.txt` and `val.txt` of a user's folder, one name per line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.reading.errors import ImageError


class _Line(NamedTuple):
    file: Path
    number: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.number}"


def listed(lists: Iterable[Path], images: Iterable[Path], folders: Iterable[Path]) -> list[list[Path]]:
    """The images that each list names, in its order.

    Args:
        lists: Files of names, in UTF-8: relative to one of the folders, with suffix or without, with `/` or `\\`.
        images: The image files there are.
        folders: Those that names may be relative to.

    Raises:
        ImageError: With the list and the line, if it names no image, several, or one of an earlier line of any list; or
            with the list, if it is empty or not in UTF-8.
    """
    lines = [_lines(file) for file in lists]
    found: dict[str, list[Path]] = {_spelled(line.name): [] for of_file in lines for line in of_file}
    places = {f"{folder / 'x'}"[:-1] for folder in folders}  # with a separator at the end, however they are given
    for path in images:
        for name in _names(path, places) & found.keys():
            found[name].append(path)
    first: dict[Path, _Line] = {}
    return [[_image(line, found, first) for line in of_file] for of_file in lines]


def _lines(file: Path) -> list[_Line]:
    lines = []
    for number, content in enumerate(file.read_bytes().splitlines(), 1):
        try:
            name = content.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise ImageError(
                f"{file}, line {number}: expected a name in UTF-8, found {content!r}; save the list as UTF-8"
            ) from error
        if name:
            lines.append(_Line(file, number, name))
    if not lines:
        raise ImageError(f"{file}: expected the name of an image on each line, found none")
    return lines


def _image(line: _Line, found: Mapping[str, list[Path]], first: dict[Path, _Line]) -> Path:
    """The image of a line, which is noted in `first`."""
    images = found[_spelled(line.name)]
    if len(images) != 1:
        what = ", ".join(path.name for path in images) or "none"
        raise ImageError(
            f"{line}: expected the name of one image, relative to the folder of images or of the lists, found "
            f"{what} called {line.name!r}; correct the line"
        )
    earlier = first.setdefault(images[0], line)
    if earlier is not line:
        raise ImageError(
            f"{line}: expected each image once, and never in both training and validation, found {line.name!r}, "
            f"which is in {earlier} already; remove one of the lines"
        )
    return images[0]


def _names(path: Path, folders: Iterable[str]) -> set[str]:
    """All names by which a list may refer to an image."""
    places = [_spelled(str(path).removeprefix(folder)) for folder in folders]
    return {name for place in places for name in (place, place.removesuffix(path.suffix))}


def _spelled(name: str) -> str:
    """A name as compared: lists from Windows have backslashes, those from macOS decomposed accents."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))
