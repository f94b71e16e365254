"""Recipe of one data set: its archives, the location of its files, and the files expected at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.preparing.downloading import Download
from datamodules.reading.archive_layouts import AT_THE_ROOT, ArchiveLayout

WORK = ".preparing"
"""Below the data set's folder: archives and what is only needed until they are converted."""

Part = Literal["images", "masks", "derived masks"]
Naming = tuple[tuple[str, str], ...]
"""Replacements (old, new), in this order, from an image's path to its mask's; the suffix becomes `.png`."""


@dataclass(frozen=True)
class Split:
    """One part of a data set on disk.

    Attributes:
        name: What it is called.
        images: Where its images lie: a pattern relative to the base; with `listing` a path with `{}` for each line.
        count: How many there are officially.
        masks: Where its masks lie; None where nothing is labelled.
        listing: File that names the images, a line each.
        derived: Where those lie that `Preparation.derive` makes of them.
    """

    name: str
    images: str
    count: int
    masks: Naming | None
    listing: str | None = None
    derived: Naming | None = None


@dataclass(frozen=True)
class Archive:
    """A download and what is taken of it.

    Attributes:
        download: Where it comes from.
        place: From a path in the archive to one below the base, None where it is left out; None for a plain file.
        convert: Makes masks of its annotation, once it is unpacked: (the archive's file, base).
        package: What `convert` imports beyond the usual, of the extra `prepare`.
        splits: The splits that it has files of; none named: all.
        brings: What it has of them; lists of images count as masks.
    """

    download: Download
    place: Callable[[str], str | None] | None
    convert: Callable[[Path, Path], None] | None = None
    package: str | None = None
    splits: tuple[str, ...] = ()
    brings: tuple[Part, ...] = ("images", "masks")


@dataclass(frozen=True)
class Preparation:
    """Prepare one data set. Its files lie below its base: the root, or the folder of an existing copy.

    Attributes:
        archives: What it consists of.
        splits: What there has to be in the end.
        ids: Ids that its masks may hold.
        max_bytes: Most bytes of all files of one archive, unpacked; at most twice the official size.
        layout: Which places of a copy are known.
        derive: Makes further masks of those that lie below the base, where they are missing or unreadable.
        derived_ids: Ids that these may hold.
        steps: What a person has to do first; `{root}` is the data set's folder.
    """

    archives: tuple[Archive, ...]
    splits: tuple[Split, ...]
    ids: frozenset[int]
    max_bytes: int
    layout: ArchiveLayout = AT_THE_ROOT
    derive: Callable[[Path], None] | None = None
    derived_ids: frozenset[int] = frozenset()
    steps: str = ""
