"""How one data set gets ready: its archives, where their files go, and what there has to be in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamodules.archive_layouts import AT_THE_ROOT, ArchiveLayout
from datamodules.preparing.downloading import Download

WORK = ".preparing"
"""Below the data set's folder: archives and what is only needed until they are converted."""


@dataclass(frozen=True)
class Split:
    """One part of a data set on disk.

    Attributes:
        name: What it is called.
        images: Where its images lie: a pattern relative to the base; with `listing` a path with `{}` for each line.
        count: How many there are officially.
        masks: What turns the path of an image into that of its mask, as (old, new) in turn, the suffix becoming `.png`;
            None where nothing is labelled.
        listing: File that names the images, a line each.
        derived: As `masks`, for those that `Preparation.derive` makes of them.
    """

    name: str
    images: str
    count: int
    masks: tuple[tuple[str, str], ...] | None
    listing: str | None = None
    derived: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class Archive:
    """A download and what is taken of it.

    Attributes:
        download: Where it comes from.
        place: From a path in the archive to one below the base, None where it is left out; None for a plain file.
        convert: Makes masks of its annotation, once all archives are unpacked: (the archive's file, base).
        package: What `convert` imports beyond the usual, of the extra `prepare`.
    """

    download: Download
    place: Callable[[str], str | None] | None
    convert: Callable[[Path, Path], None] | None = None
    package: str | None = None


@dataclass(frozen=True)
class Preparation:
    """How one data set gets ready. Its files lie below its base: the root, or the folder of a copy that is there.

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
