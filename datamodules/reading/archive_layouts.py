"""Find a data set in its root or in the folder that its archive unpacks to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ArchiveLayout:
    """Possible locations of a copy, shared by reading and preparing it.

    Attributes:
        folders: Folders of a copy, relative to its location.
        inner: Locations below the root, besides the root itself.
    """

    folders: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()

    def base(self, root: Path) -> Path:
        """The location with most of the folders that are not empty; at a tie the root, or the earlier of `inner`."""
        places = [root, *(root / inner for inner in self.inner)]
        return max(places, key=lambda place: sum(_holds_something(place / folder) for folder in self.folders))


AT_THE_ROOT = ArchiveLayout()
ADE20K = ArchiveLayout(
    ("images/training", "images/validation", "annotations/training", "annotations/validation"),
    ("ADEChallengeData2016",),
)
PASCAL_CONTEXT = ArchiveLayout(
    ("JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext"),
    ("VOCdevkit/VOC2010", "VOC2010"),
)


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is not None
