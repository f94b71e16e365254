"""Recipe of one data set: its archives, the location of its files, and the files expected at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.preparing.downloading import Download
from datamodules.reading.archive_layouts import AT_THE_ROOT, ArchiveLayout

WORK = ".preparing"
"""Folder below the data set's for archives and intermediate files."""

Part = Literal["images", "masks", "derived masks"]
Naming = tuple[tuple[str, str], ...]
"""Replacements (old, new), in this order, from an image's path to its mask's; the suffix becomes `.png`."""


@dataclass(frozen=True)
class Split:
    """One split of a data set on disk.

    Attributes:
        name: Its name.
        images: Location of its images: a pattern relative to the base; with `listing` a path with `{}` for each line.
        count: Their official number.
        masks: Location of its masks; None without labels.
        listing: File that lists the images, one per line.
        derived: Location of the masks that `Preparation.derive` makes of them.
    """

    name: str
    images: str
    count: int
    masks: Naming | None
    listing: str | None = None
    derived: Naming | None = None


@dataclass(frozen=True)
class Archive:
    """A download and the files used from it.

    Attributes:
        download: Its source.
        place: Map from a path in the archive to one below the base, or to None to leave it out; None for a plain file.
        convert: Converts its annotation to masks, once it is unpacked: (the archive's file, base).
        package: Package of the extra `prepare` that `convert` imports.
        splits: The splits that it has files of; all if empty.
        brings: Kinds of files that it holds; lists of images count as masks.
    """

    download: Download
    place: Callable[[str], str | None] | None
    convert: Callable[[Path, Path], None] | None = None
    package: str | None = None
    splits: tuple[str, ...] = ()
    brings: tuple[Part, ...] = ("images", "masks")


@dataclass(frozen=True)
class Preparation:
    """Preparation of one data set. Its files are below its base: the root, or the folder of an existing copy.

    Attributes:
        archives: Its archives.
        splits: The splits expected at the end.
        ids: Allowed ids of its masks.
        max_bytes: Most bytes of all files of one archive, unpacked; a few times the official size.
        layout: Known locations of a copy.
        derive: Makes further masks of those below the base, where they are missing or unreadable.
        derived_ids: Allowed ids of these.
        steps: Steps to do by hand first; `{root}` is the data set's folder.
    """

    archives: tuple[Archive, ...]
    splits: tuple[Split, ...]
    ids: frozenset[int]
    max_bytes: int
    layout: ArchiveLayout = AT_THE_ROOT
    derive: Callable[[Path], None] | None = None
    derived_ids: frozenset[int] = frozenset()
    steps: str = ""
