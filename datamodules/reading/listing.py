"""List the image files below a folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from datamodules.reading import heif
from datamodules.reading.errors import ImageError, is_file, is_folder, refuse_folder
from src.core.errors import MissingFile
from src.core.printable import printable

_ALWAYS = {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".gif", ".jp2"}
_OF_A_RUN = frozenset({"adapter.safetensors", "adapt.yaml", "cell.json", "evaluation.json", "confusion.npz"})
_OF_A_STUDY = frozenset({"table.json", "report.html"})
IMAGE_SUFFIXES = frozenset(_ALWAYS | (heif.HEIF_SUFFIXES if heif.is_installed() else set()))


def list_images(folder: Path, exclude: frozenset[str] = frozenset()) -> list[Path]:
    """All image files below a folder, sorted; hidden ones are left out.

    Linked folders and this project's run folders, whose pictures are results, are skipped with a warning.

    Args:
        folder: Where to look.
        exclude: Names of folders, directly below `folder`, to skip.

    Raises:
        MissingFile: If the folder does not exist.
        ImageError: If it is a run folder, holds no image, or it or a folder above or below cannot be read.
    """
    if not is_folder(folder):
        raise MissingFile(f"{folder}: expected a folder of images, found {'a file' if is_file(folder) else 'nothing'}")
    found: list[Path] = []
    links: list[Path] = []
    runs: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse_folder):
        if is_run(files):
            runs.append(Path(place))
            folders.clear()
            continue
        folders[:] = [f for f in folders if not f.startswith(".") and not (Path(place) == folder and f in exclude)]
        found += [Path(place, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in IMAGE_SUFFIXES]
        links += [Path(place, f) for f in folders if Path(place, f).is_symlink()]
    if folder in runs:
        raise ImageError(
            f"{folder}: expected a folder of images, found the folder of a run, whose pictures are its results; give "
            "the folder of your images"
        )
    if runs:
        warnings.warn(
            printable(
                f"{folder}: run folders are skipped, since their pictures are results; found {len(runs)}, such as "
                f"{min(runs).relative_to(folder)}"
            ),
            stacklevel=1,
        )
    if links:
        warnings.warn(
            printable(
                f"{folder}: linked subfolders are not followed; found {len(links)}, such as "
                f"{min(links).relative_to(folder)}; to use their images, replace the links by the folders themselves"
            ),
            stacklevel=1,  # attributed to this line, so that it is shown once
        )
    if not found:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"{folder}: expected images ({kinds}) in it or its subfolders, found none")
    return sorted(found)


def is_run(files: Collection[str]) -> bool:
    """Return whether a folder with these files belongs to a run, a study or one of its cells."""
    return not _OF_A_RUN.isdisjoint(files) or _OF_A_STUDY.issubset(files)


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, images or not; hidden and linked folders are skipped.

    Raises:
        ImageError: If a folder cannot be read.
    """
    for place, folders, files in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(place, f) for f in sorted(files))
