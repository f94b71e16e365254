"""Prepare a data set: download, unpack, convert, verify, and write a manifest."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.preparing.catalogue import CATALOGUE
from datamodules.preparing.counting import refuse_surplus, shortfalls
from datamodules.preparing.downloading import check, digest, fetch
from datamodules.preparing.recipe import WORK, Archive, Preparation
from datamodules.preparing.unpacking import ArchiveError, unpack
from datamodules.preparing.verification import Verified, verify
from datamodules.reading.errors import ImageError
from src.core.atomic_files import make_folder, remove_leftovers, write_text, writing
from src.core.errors import MissingFile, UserError
from src.core.json_files import read_json, write_json

logger = logging.getLogger(__name__)

MANIFEST = ".manifest.json"
"""Manifest in the data set's folder. Hidden, so that it is neither data nor part of a study's hash."""

TAKEN = "archives.json"
"""Record of the unpacked archives, in the folder of downloads, until the manifest is written."""

_MAX_FILES = 200_000  # in one archive; four times the largest count


def prepare(name: str, root: Path, verify_only: bool = False) -> str:
    """Prepare a data set, or report its faults.

    Complete files are not downloaded again. Archives are in `.preparing` below the root until all is verified, so that
    an interrupted preparation resumes.

    Args:
        name: In `CATALOGUE`.
        root: The data set's folder.
        verify_only: Write nothing, and compare with the manifest, if it exists.

    Returns:
        A summary to print.

    Raises:
        MissingFile: If the folder, or an archive that has to be downloaded by hand, is missing.
        UserError: If a download fails, an archive is refused, or the data are incomplete or inconsistent.
    """
    preparation = CATALOGUE[name]
    if verify_only:
        found = verify(root, preparation)
        return summary(name, root, found) + compared(root, found)
    make_folder(root)
    with _alone(root):
        base = preparation.layout.base(root)
        refuse_surplus(base, preparation)
        archives = known_archives(root) | _installed(root, base, preparation)
        if preparation.derive is not None:
            preparation.derive(base)
        found = verify(root, preparation)
        content = {"name": name, "archives": archives, "splits": {split: asdict(one) for split, one in found.items()}}
        remove_leftovers(root / MANIFEST)
        write_text(root / MANIFEST, json.dumps(content, indent=2) + "\n")
        shutil.rmtree(root / WORK, ignore_errors=True)
    return f"{summary(name, root, found)}\n{root / MANIFEST} written"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process at a time prepare; the others wait and report it."""
    lock = FileLock(root / ".prepare.lock")
    with writing(lock.lock_file):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s: another process is preparing it; waiting for it to end", root)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def summary(name: str, root: Path, found: dict[str, Verified]) -> str:
    """One line per split."""
    lines = [f"{name} in {root}: complete"]
    for split, one in found.items():
        sizes = " to ".join(f"{width}×{height}" for width, height in dict.fromkeys((one.smallest, one.largest)))
        ids = f"ids {', '.join(map(str, one.ids))}" if one.labelled else "no masks"
        lines.append(f"  {split:<6} {one.images:>7,} images, {sizes}, {ids}")
    return "\n".join(lines)


def compared(root: Path, found: dict[str, Verified]) -> str:
    """Compare the files found with the manifest.

    Raises:
        ImageError: If a file has changed since the manifest was written.
    """
    if not (root / MANIFEST).is_file():
        return "\nno manifest to compare with; it is written without --verify-only"
    known = _manifest(root)["splits"]
    if changed := [split for split, one in found.items() if known.get(split, {}).get("sha256") != one.sha256]:
        raise ImageError(
            f"{root / MANIFEST}: expected the files that it lists, found changes in {', '.join(changed)}; "
            "restore them, or prepare again to accept them"
        )
    return "\nevery byte matches the manifest"


def known_archives(root: Path) -> dict[str, Any]:
    """The archives of an earlier preparation; none if the data have another origin."""
    return dict(_manifest(root)["archives"]) if (root / MANIFEST).is_file() else {}


def _manifest(root: Path) -> dict[str, Any]:
    try:
        content = json.loads((root / MANIFEST).read_bytes())
        return {
            key: {name: dict(entry) for name, entry in dict(content[key]).items()} for key in ("archives", "splits")
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{root / MANIFEST}: expected a manifest, found {error!r}; remove it") from error


def _installed(root: Path, base: Path, preparation: Preparation) -> dict[str, Any]:
    """Download, unpack and convert missing files; return size and sha256 of each archive used."""
    for leftover in base.glob(".unpacking-*"):  # left by a killed process
        shutil.rmtree(leftover)
    work = root / WORK
    taken: dict[Archive, Path] = {}
    while needed := {
        archive: lines for archive, lines in _that_help(base, preparation).items() if archive not in taken
    }:
        for archive in needed:
            _require_package(archive)
        paths = {
            archive: _obtained(archive, root, work, preparation, "; ".join(lines)) for archive, lines in needed.items()
        }
        for archive, path in paths.items():
            _record(path, work)
            _take(archive, path, base, work, preparation)
        taken |= paths  # a list of images from one archive may require another
    if poor := _that_help(base, preparation):
        said = "; ".join(dict.fromkeys(line for lines in poor.values() for line in lines))
        advice = "; ".join(_discarded(taken[archive], work) for archive in poor)
        raise ImageError(f"{base}: {said}, although all archives are unpacked; {advice}")
    return _recorded(work)


def _recorded(work: Path) -> dict[str, Any]:
    """The archives that were unpacked since the last manifest, also by a killed process.

    An unreadable record counts as empty: the manifest then lacks them, and the data are verified all the same.
    """
    return read_json(work / TAKEN) or {}


def _record(path: Path, work: Path) -> None:
    """Record an archive before it is unpacked: afterwards it may no longer be needed."""
    work.mkdir(exist_ok=True)
    write_json(work / TAKEN, {**_recorded(work), path.name: {"bytes": path.stat().st_size, "sha256": digest(path)}})


def _forget(path: Path, work: Path) -> None:
    """Remove an unusable archive from the record."""
    left = {name: entry for name, entry in _recorded(work).items() if name != path.name}
    if left:
        write_json(work / TAKEN, left)
    else:
        (work / TAKEN).unlink(missing_ok=True)
        _remove_if_empty(work)


def _remove_if_empty(work: Path) -> None:
    if work.is_dir() and not any(work.iterdir()):
        work.rmdir()


def _take(archive: Archive, path: Path, base: Path, work: Path, preparation: Preparation) -> None:
    """Unpack and convert an archive.

    Raises:
        ArchiveError, ImageError: If it is refused.
    """
    try:
        if archive.place is not None:
            unpack(path, base, archive.place, _MAX_FILES, preparation.max_bytes)
        if archive.convert is not None:
            archive.convert(path, base)
    except (ArchiveError, ImageError) as error:
        raise type(error)(f"{error}; {_discarded(path, work)}") from error


def _discarded(path: Path, work: Path) -> str:
    """Advise on an unusable archive. A download is removed, or each later run would use it again."""
    _forget(path, work)
    if path.parent != work:
        return f"replace {path.name} by the official file"
    path.unlink()
    for folder in work.iterdir():
        if folder.is_dir():  # unpacked, but not converted
            shutil.rmtree(folder)
    _remove_if_empty(work)
    return f"{path.name} has been removed; run the command again to download it"


def _that_help(base: Path, preparation: Preparation) -> dict[Archive, list[str]]:
    """Missing parts by the archive that holds them."""
    missing = shortfalls(base, preparation)
    lines = {
        archive: [
            one.line
            for one in missing
            if one.part in archive.brings and (not archive.splits or one.split in archive.splits)
        ]
        for archive in preparation.archives
    }
    return {archive: of_it for archive, of_it in lines.items() if of_it}


def _require_package(archive: Archive) -> None:
    """Raise before hours of downloads, not after them."""
    if archive.package is not None and importlib.util.find_spec(archive.package) is None:
        raise UserError(
            f"{archive.download.name}: converting it needs {archive.package}; pip install 'glare-lightning[prepare]'"
        )


def _obtained(archive: Archive, root: Path, work: Path, preparation: Preparation, missing: str) -> Path:
    """The archive's file: placed in the root by hand, or downloaded."""
    by_hand = root / archive.download.name
    if by_hand.is_file():
        check(by_hand, archive.download)
        return by_hand
    if not archive.download.urls:
        raise MissingFile(
            f"{by_hand}: expected this file, which can't be downloaded without an account, found nothing\n"
            f"({missing}); to get it:\n"
            f"{preparation.steps.format(root=root)}"
        )
    return fetch(archive.download, work)
