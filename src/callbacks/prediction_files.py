"""Paths of predicted files, written atomically."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

from src.core.atomic_files import make_folder, replacing
from src.core.errors import UserError

_ENDINGS = (".png", ".tif", ".npz")  # of the files written for an image


def targets_of(names: list[str]) -> list[str]:
    """Map each image to its output name: without the suffix, or with it if two would collide.

    No two names are the same file on any file system, nor is one the folder of another; remaining collisions are
    numbered.
    """
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    times = Counter(_on_any_disk(stem) for stem in stems)
    # no path may be both a file and a folder: `a.jpg` and `a.png/b.jpg`
    folders = {_on_any_disk(folder.as_posix()) for name in names for folder in PurePosixPath(name).parents}
    taken: set[str] = set()

    def free(target: str) -> bool:
        place = _on_any_disk(target)
        return place not in taken and folders.isdisjoint(place + ending for ending in _ENDINGS)

    targets = []
    for stem, name in zip(stems, names, strict=True):
        preferred = [stem, name] if times[_on_any_disk(stem)] == 1 else [name]
        target = next(filter(free, chain(preferred, (f"{name}-{number}" for number in count(2)))))
        taken.add(_on_any_disk(target))
        targets.append(target)
    return targets


def flat_targets(names: list[str]) -> list[str]:
    """File names of the images without folders and suffixes, as benchmark servers expect.

    Raises:
        UserError: If two are the same.
    """
    first: dict[str, str] = {}
    for name in names:
        stem = PurePosixPath(name).stem
        if first.setdefault(_on_any_disk(stem), name) != name:
            raise UserError(
                "a submission has no subfolders: expected images with distinct names, found "
                f"{first[_on_any_disk(stem)]} and {name}; remove one, or write into folders with --predictions.ids "
                "dataset"
            )
    return [PurePosixPath(name).stem for name in names]


def folder_of(root: Path, names: list[str]) -> Path:
    """The common folder of all images, judging by their names below `root`."""
    return root / os.path.commonpath([PurePosixPath("/", name).parent for name in names])[1:]


def refuse_among(output: Path, images: Path) -> None:
    """Refuse to write into the folder of images.

    Raises:
        UserError: If the output is the folder of images or inside it.
    """
    if output.resolve().is_relative_to(images.resolve()):
        beside = images.resolve().with_name(f"{images.resolve().name}-predictions")
        raise UserError(
            f"{output}: expected a folder outside {images}, where the next run would use masks and overlays as "
            f"images; choose another --predictions.output, such as {beside}"
        )


def write_zip(path: Path, files: list[Path]) -> None:
    """Write a zip of files without folders."""
    with ZipFile(path, "w") as archive:  # uncompressed, since PNGs are compressed already
        for file in files:
            archive.write(file, file.name)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file atomically, and create the folders above it."""
    make_folder(path.parent)
    with replacing(path) as partial:
        write(partial)


def _on_any_disk(path: str) -> str:
    """Key that is equal for paths that some file system treats as one: different case, or composed letters."""
    return unicodedata.normalize("NFC", path.casefold())
