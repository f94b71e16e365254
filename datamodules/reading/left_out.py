"""Count the files of a folder that are not used, by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from datamodules.reading import heif
from datamodules.reading.listing import IMAGE_SUFFIXES, files_below

OWN = frozenset({"classes.yaml", "train.txt", "val.txt"})  # files that describe the others
_KINDS = 12  # listed in full


def left_out(root: Path, used: Iterable[Path], skipped: frozenset[Path] = frozenset()) -> str:
    """Describe the files below a folder that are not used: `20 .heic, 20 .npy`; empty if there are none.

    Args:
        root: The folder; hidden and linked folders in it are skipped.
        used: Images and masks.
        skipped: Folders whose images are not needed, such as the masks of a pre-training.
    """
    known = {str(path) for path in used}
    others: Counter[str] = Counter()
    images: list[Path] = []
    for path in files_below(root):
        suffix = path.suffix.lower()
        if str(path) in known or (path.parent == root and path.name in OWN):
            continue
        if suffix not in IMAGE_SUFFIXES:
            others[suffix or "without suffix"] += not path.name.startswith(".")
        elif not skipped.intersection(path.parents):
            images.append(path)
    kinds = sorted(others.items(), key=lambda kind: (-kind[1], kind[0]))
    parts = [f"{count} {suffix}{_hint(suffix)}" for suffix, count in kinds[:_KINDS] if count]
    if rest := sum(count for _, count in kinds[_KINDS:]):
        parts.append(f"{rest} of other kinds")
    if images:
        parts.append(
            f"{len(images)} images or masks in other folders or without a counterpart, {images[0].relative_to(root)} "
            "first"
        )
    return ", ".join(parts)


def _hint(suffix: str) -> str:
    return " (pip install 'glare-lightning[heic]' to read them)" if suffix in heif.HEIF_SUFFIXES else ""
