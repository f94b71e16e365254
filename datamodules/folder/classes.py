"""`classes.yaml` of a user's folder: the meaning of ids or colours in its masks.

    - {name: soil, colour: [120, 85, 60]}
    - {name: crop, colour: "#3cb44b"}
    - {name: unknown, colour: [0, 0, 0], ignore: true}

If the entries have an `id`, masks hold ids, and colours are only for pictures; otherwise masks hold the colours.
Ids in `ignored_ids` (255) need no entry.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.base import Colour
from datamodules.known_classes import described
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE, MOST, id_ranges
from src.config.yaml_reader import load
from src.core.errors import UserError

_KEYS = {"name", "id", "colour", "color", "ignore"}
_NAMES = ("background", "foreground")  # the usual meaning of two ids


class FolderClass(NamedTuple):
    """One entry: a class, or with `ignore` pixels that are neither trained on nor scored."""

    name: str
    id: int | None
    colour: Colour | None
    ignore: bool


class FolderClasses(NamedTuple):
    """The entries of a file, in its order."""

    entries: list[FolderClass]

    @property
    def classes(self) -> list[FolderClass]:
        """The entries that are classes."""
        return [entry for entry in self.entries if not entry.ignore]

    @property
    def by_colour(self) -> dict[Colour, int]:
        """Colour in a mask → class, or `IGNORE`; empty where masks hold ids."""
        coloured = [entry for entry in self.entries if entry.id is None]
        return {e.colour: IGNORE if e.ignore else self.classes.index(e) for e in coloured if e.colour is not None}

    @property
    def ids(self) -> list[int]:
        """The id of each class in a mask; its own number where masks are coloured."""
        return [number if entry.id is None else entry.id for number, entry in enumerate(self.classes)]

    @property
    def ignored_ids(self) -> list[int]:
        """Ids in a mask that are ignored."""
        return [entry.id for entry in self.entries if entry.ignore and entry.id is not None]


def read_classes(path: Path) -> FolderClasses:
    """Read `classes.yaml`.

    Raises:
        ImageError: With the file, the entry and its fault.
    """
    try:
        entries = load(path)
    except UserError as error:
        raise ImageError(f"{path}: expected a list of classes in YAML; {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ImageError(f"{path}: expected a list of entries such as {{name: soil, id: 0}}, found {entries!r}")
    read = FolderClasses([_entry(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, 1)])
    with_id = [entry.id is not None for entry in read.entries]
    if any(with_id) and not all(with_id):
        raise ImageError(f"{path}: expected an id in all entries or in none, found {sum(with_id)} of {len(with_id)}")
    columns: dict[str, list[Any]] = {
        "name": [entry.name for entry in read.entries],
        "id": [entry.id for entry in read.entries],
        "colour": [entry.colour for entry in read.entries],
    }
    for what, values in columns.items():
        twice = {str(value) for value in values if value is not None and values.count(value) > 1}
        if twice:
            raise ImageError(f"{path}: expected each {what} once, found {', '.join(sorted(twice))} twice")
    check_count(f"{path}", len(read.classes))
    if not read.classes:
        raise ImageError(f"{path}: expected at least one entry that is not ignored, found none")
    return read


def classes_among(found: Collection[int], ignored: Collection[int], root: Path) -> list[int]:
    """The ids that are classes, where only the masks show which exist.

    Args:
        found: Ids that occur in the masks.
        ignored: Ids that are not classes.
        root: The folder, for the message.

    Raises:
        ImageError: If fewer than two classes are left after the ignored ids, or there are more than 255.
    """
    classes = sorted(set(found) - set(ignored))
    left_out = sorted(set(found) & set(ignored))
    if len(classes) < 2 and left_out:
        names = _NAMES if len(found) == 2 else [default_name(i) for i in sorted(found)]
        entries = [f"- {{name: {name}, id: {i}}}" for name, i in zip(names, sorted(found), strict=True)]
        raise ImageError(
            f"{root}: expected masks of two classes or more, found the ids {', '.join(map(str, sorted(found)))}, of "
            f"which ignored_ids leaves out {', '.join(map(str, left_out))}; if all are classes, write "
            f"`ignored_ids: []`, or list them in {root / 'classes.yaml'}, one per line: `{'` and `'.join(entries)}`"
        )
    if len(classes) == 1:
        warnings.warn(
            f"{root}: expected masks of two classes or more, found only the id {classes[0]}, for which every score is "
            f"perfect; if other classes are rare, list all of them in {root / 'classes.yaml'}",
            stacklevel=1,
        )
    check_count(f"{root}: masks", len(classes))
    return classes


def check_ids(ids: Collection[int], ignored: Collection[int], mask: Path) -> None:
    """Check that the ids of a mask without a list of classes can be class ids.

    Raises:
        ImageError: Naming the mask and the ids that are negative or too large, if these are not ignored.
    """
    others = sorted(i for i in set(ids) - set(ignored) if not 0 <= i <= MOST)
    if others:
        raise ImageError(
            f"{mask}: expected class ids from 0 to {MOST}, found {id_ranges(others)}; if these mark unlabelled "
            f"pixels, such as the nodata value of GIS tools, ignore them: ignored_ids: {sorted({*ignored, *others})}"
        )


def default_name(i: int) -> str:
    """Default name of a class."""
    return f"class {i}"


def check_expected(root: Path, own: Mapping[int, str], expected: Mapping[int, str], by_name: bool) -> None:
    """Compare the classes that a folder names with those that a head was trained on.

    Args:
        root: The folder.
        own: Its classes, id → name.
        expected: Those of the head.
        by_name: Match classes by their names alone, as for coloured masks.

    Raises:
        UserError: If a class is unknown to the head or named otherwise. Default names match any name.
    """
    if by_name:
        others = {i: name for i, name in own.items() if name not in expected.values()}
    else:
        unnamed = {i for i, name in own.items() if default_name(i) in (name, expected.get(i))}
        others = {i: name for i, name in own.items() if i not in expected or not (i in unnamed or expected[i] == name)}
    if others:
        raise UserError(
            f"{root}: expected the classes that the head was trained on, "
            f"{described([*expected], [*expected.values()])}, found {described([*others], [*others.values()])}; "
            "correct class_names or classes.yaml, or leave them out to use the head's"
        )


def check_known(ids: Collection[int], expected: Mapping[int, str], mask: Path, ignored: Collection[int]) -> None:
    """Check that a trained head knows the ids of a mask.

    Raises:
        ImageError: Naming the mask, its ids, and the classes of the head.
    """
    if others := sorted(set(ids) - expected.keys()):
        raise ImageError(
            f"{mask}: expected the class ids that the head was trained on, "
            f"{described([*expected], [*expected.values()])}, found {id_ranges(others)}; correct the mask, train a "
            f"head with these classes, or ignore them: ignored_ids: {sorted({*ignored, *others})}"
        )


def check_count(place: str, count: int) -> None:
    """Check that so many classes fit in 8 bits.

    Raises:
        ImageError: With the origin of the classes, if there are too many.
    """
    if count > IGNORE:
        raise ImageError(
            f"{place}: expected at most {IGNORE} classes, found {count}; class ids are stored in 8 bits, and {IGNORE} "
            "is the ignore index: merge classes (or are these instance ids or depths?)"
        )


def _entry(entry: Any, place: str) -> FolderClass:
    example = "{name: soil, id: 0} or {name: soil, colour: [120, 85, 60]}"
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or set(entry) - _KEYS:
        raise ImageError(f"{place}: expected {example}, found {entry!r}")
    if not entry["name"].isprintable():
        raise ImageError(f"{place}: expected a name of printable characters, found {entry['name']!r}")
    number, ignore = entry.get("id"), entry.get("ignore", False)
    given = entry.get("colour", entry.get("color"))
    if number is None and given is None:
        raise ImageError(f"{place}: expected an id or a colour, as in {example}, found neither")
    if type(ignore) is not bool:
        raise ImageError(f"{place}: expected ignore to be true or false, found {ignore!r}")
    if number is not None and (type(number) is not int or not (ignore or 0 <= number <= MOST)):
        raise ImageError(
            f"{place}: expected an id from 0 to {MOST}, or any whole number with ignore: true, found {number!r}"
        )
    return FolderClass(entry["name"], number, None if given is None else _colour(given, place), ignore)


def _colour(given: Any, place: str) -> Colour:
    if isinstance(given, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", given):
        red, green, blue = bytes.fromhex(given[1:])
        return red, green, blue
    if isinstance(given, list) and len(given) == 3 and all(type(v) is int and 0 <= v <= 255 for v in given):
        return given[0], given[1], given[2]
    raise ImageError(f'{place}: expected a colour as [red, green, blue], 0 to 255, or "#rrggbb", found {given!r}')
