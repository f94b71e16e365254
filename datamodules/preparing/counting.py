"""Count the files of a data set without opening them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from datamodules.preparing.recipe import Naming, Part, Preparation, Split
from datamodules.reading.errors import ImageError
from datamodules.reading.listing import IMAGE_SUFFIXES


class Shortfall(NamedTuple):
    """Files that are missing.

    Attributes:
        split: The split.
        part: The kind of file.
        line: What was expected and found.
    """

    split: str
    part: Part
    line: str


def shortfalls(base: Path, preparation: Preparation) -> list[Shortfall]:
    """List missing files; a list of images counts as masks, because it comes with the annotation."""
    return [shortfall for split in preparation.splits for shortfall in _of_split(base, split)]


def refuse_surplus(base: Path, preparation: Preparation) -> None:
    """Raise if there are more files than the data set has, which no download would change.

    Raises:
        ImageError: With how many images there are.
    """
    counts = {split: len(list_split(base, split)) for split in preparation.splits}
    if lines := [_counted(split, found) for split, found in counts.items() if found > split.count]:
        raise ImageError(f"{base}: {'; '.join(lines)}; remove files that do not belong to the data set")


def list_split(base: Path, split: Split) -> list[Path]:
    """Its images, sorted; none if their folder or list does not exist."""
    if split.listing is None:
        return _images(base, split.images)
    return sorted(path for name in _names(base, split) if (path := base / split.images.format(name)).is_file())


def mask_of(base: Path, image: Path, naming: Naming) -> Path:
    """Path at which an image's mask is expected."""
    relative = image.relative_to(base).as_posix()
    for old, new in naming:
        relative = relative.replace(old, new)
    return (base / relative).with_suffix(".png")


def _of_split(base: Path, split: Split) -> Iterator[Shortfall]:
    if split.listing is not None and (said := len(_names(base, split))) < split.count:
        line = f"{split.name}: expected {split.count:,} names in {split.listing}, found {said:,}"
        yield Shortfall(split.name, "masks", line)
        found = len(_images(base, split.images.format("*")))  # which of them the split needs is unknown at this point
        if found < split.count:
            yield Shortfall(split.name, "images", _counted(split, found))
        return
    images = list_split(base, split)
    if len(images) < split.count:
        yield Shortfall(split.name, "images", _counted(split, len(images)))
    kinds: tuple[tuple[Part, Naming | None], ...] = (("masks", split.masks), ("derived masks", split.derived))
    for part, naming in kinds:
        if naming is not None and (missing := _masks_missing(base, split, images, naming)):
            yield Shortfall(split.name, part, f"{split.name}: {missing}")


def _masks_missing(base: Path, split: Split, images: list[Path], naming: Naming) -> str | None:
    masks = [mask_of(base, image, naming) for image in images]
    if without := [mask for mask in masks if not mask.is_file()]:
        return f"expected a mask for each image, found none for {len(without)} ({without[0]})"
    if split.listing is not None or len(images) >= split.count:
        return None
    # count the masks of missing images as missing too; otherwise their archive would be requested one run later
    pattern = mask_of(base, base / split.images, naming).relative_to(base).as_posix()
    found = len(_images(base, pattern))
    return None if found >= split.count else f"expected {split.count:,} masks {pattern}, found {found:,}"


def _counted(split: Split, found: int) -> str:
    return f"{split.name}: expected {split.count:,} images {split.listing or split.images}, found {found:,}"


def _names(base: Path, split: Split) -> list[str]:
    listing = None if split.listing is None else base / split.listing
    return listing.read_text().split() if listing is not None and listing.is_file() else []


def _images(base: Path, pattern: str) -> list[Path]:
    """Files with an image suffix; leftovers of operating systems, such as Thumbs.db, are not."""
    return sorted(
        path
        for path in base.glob(pattern)
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES
    )
