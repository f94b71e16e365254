"""Verify that a data set on disk is complete: counts, readable pairs of equal size, no unknown id.

The names and counts come from the catalogue and not from the data modules, so that a data module that lists too few
files is noticed as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from datamodules.preparing.counting import list_split, mask_of, refuse_surplus, shortfalls
from datamodules.preparing.recipe import Preparation, Split
from datamodules.reading.decoders import DECODERS
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.masks import IGNORE, mask_ids
from src.core.errors import MissingFile

_NAMED = 5  # bad files listed in a message


@dataclass(frozen=True)
class Verified:
    """Verified content of one split.

    Attributes:
        images: Their number.
        labelled: True if they have masks.
        smallest: (width, height) of the image with the fewest pixels.
        largest: Size of the one with the most.
        ids: Ids that occur in the masks.
        sha256: Over the paths and contents of all its files.
    """

    images: int
    labelled: bool
    smallest: tuple[int, int]
    largest: tuple[int, int]
    ids: tuple[int, ...]
    sha256: str


class _Checked(NamedTuple):
    size: tuple[int, int]
    ids: frozenset[int]
    digest: bytes


def verify(root: Path, preparation: Preparation) -> dict[str, Verified]:
    """Decode every file of a data set.

    Args:
        root: Its folder.
        preparation: The expected content.

    Returns:
        Verified content by split.

    Raises:
        MissingFile: If the folder is not there.
        ImageError: With everything that is missing or wrong.
    """
    if not root.is_dir():
        raise MissingFile(f"{root}: expected the folder of the data set, found nothing")
    base = preparation.layout.base(root)
    refuse_surplus(base, preparation)
    if missing := shortfalls(base, preparation):
        said = "; ".join(one.line for one in missing)
        raise ImageError(f"{base}: {said}; prepare it without --verify-only to get what is missing")
    found = {split.name: _verify_split(base, split, preparation) for split in preparation.splits}
    if problems := [problem for _, split_problems in found.values() for problem in split_problems]:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise ImageError(
            f"{base}: expected valid pairs of image and mask, found {'; '.join(map(str, problems[:_NAMED]))}{more}"
        )
    return {name: verified for name, (verified, _) in found.items() if verified is not None}


def _verify_split(base: Path, split: Split, preparation: Preparation) -> tuple[Verified | None, list[ImageError]]:
    images = list_split(base, split)
    kinds = ((split.masks, preparation.ids), (split.derived, preparation.derived_ids))

    def check(image: Path) -> _Checked | ImageError:
        try:
            masks = {mask_of(base, image, naming): ids for naming, ids in kinds if naming is not None}
            return _check_image(base, image, masks)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(DECODERS) as threads:  # decoders and hashes release the interpreter lock
        results = list(tqdm(threads.map(check, images), f"verify {split.name}", len(images), unit="image", delay=1))
    problems = [result for result in results if isinstance(result, ImageError)]
    good = [result for result in results if isinstance(result, _Checked)]
    if problems or not good:
        return None, problems
    return _summary(split, good), []


def _check_image(base: Path, image: Path, masks: dict[Path, frozenset[int]]) -> _Checked:
    """Decode an image and its masks, each with its allowed ids; record the ids of the first mask."""
    height, width = read_image(image).shape[:2]
    digest = hashlib.sha256()
    for path in (image, *masks):
        digest.update(path.relative_to(base).as_posix().encode() + b"\0" + path.read_bytes())
    present = [_check_mask(mask, ids, (width, height)) for mask, ids in masks.items()]
    return _Checked((width, height), present[0] if present else frozenset(), digest.digest())


def _check_mask(mask: Path, ids: frozenset[int], size: tuple[int, int]) -> frozenset[int]:
    present = frozenset(mask_ids(mask))
    if unknown := sorted(present - ids):
        expected = f"{min(ids)}–{max(ids - {IGNORE})}{' and 255' if IGNORE in ids else ''}"
        raise ImageError(f"{mask}: expected ids {expected}, found {unknown}; replace or remove it")
    with Image.open(mask) as file:
        found = file.size
    if found != size:
        raise ImageError(
            f"{mask}: expected {size[0]}×{size[1]} as in its image, found {found[0]}×{found[1]}; replace or remove it"
        )
    return present


def _summary(split: Split, pairs: Sequence[_Checked]) -> Verified:
    by_area = sorted((pair.size for pair in pairs), key=lambda size: (size[0] * size[1], size))
    return Verified(
        images=len(pairs),
        labelled=split.masks is not None,
        smallest=by_area[0],
        largest=by_area[-1],
        ids=tuple(sorted(frozenset().union(*(pair.ids for pair in pairs)))),
        sha256=hashlib.sha256(b"".join(pair.digest for pair in pairs)).hexdigest(),
    )
