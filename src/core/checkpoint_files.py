"""Checkpoint files that survive a kill: written atomically, with the previous one kept as a fallback.

`last.ckpt` is replaced by ``os.replace``, and the file it replaces becomes `last.previous.ckpt`. Each has a hash of its
content, which is checked on loading.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile

import torch

from src.core.atomic_files import make_folder, remove_leftovers, replacing
from src.core.checkpoint_paths import checkpoint_exists, previous_of
from src.core.content_hash import content_hash
from src.core.errors import MissingFile, UserError
from src.core.printable import printable
from src.core.unpickling import reason_of, wanted_call

MapLocation = str | torch.device | dict[str, str] | Callable[[Any, str], Any] | None


HASH = "glare_content_hash"  # entry that only checkpoints of this project have


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint atomically and keep the one it replaces, unless that one is truncated.

    Args:
        checkpoint: Entries that ``torch.save`` accepts; a hash of them is added to the file.
        path: The target; its folder is created. Only one process may write to it at a time.
    """
    path, previous = Path(path), previous_of(path)
    make_folder(path.parent)
    for file in (path, previous):
        remove_leftovers(file)
    hashed = {**checkpoint, HASH: content_hash(checkpoint)}
    with replacing(path, keep=previous if _is_complete(path) else None) as part, part.open("wb") as stream:
        _save(hashed, stream)


class _Refusal:
    """Stream that remembers why it could not be written, where torch raises an error about its position."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.stream.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _save(content: Mapping[str, Any], stream: IO[bytes]) -> None:
    """Save to a stream, because torch writes a path's file name into the file.

    Raises:
        OSError: If the disk is full, among others.
    """
    kept = _Refusal(stream)
    try:
        torch.save(content, kept)  # type: ignore[arg-type]
    except RuntimeError:
        if kept.error is None:
            raise
        raise kept.error from None


def load_checkpoint(
    path: str | Path, map_location: MapLocation = "cpu", weights_only: bool | None = True, announce: bool = True
) -> dict[str, Any]:
    """Load a checkpoint; if it cannot be read completely, load the previous one, with a warning on stderr.

    Args:
        path: A file of `save_checkpoint` or ``torch.save``.
        map_location: As in ``torch.load``.
        weights_only: As in ``torch.load``.
        announce: Print the warning, which one process of several should do.

    Raises:
        MissingFile: If neither the file nor a previous one exists.
        UserError: If neither can be read completely.
    """
    path, previous = Path(path), previous_of(path)
    if not checkpoint_exists(path):
        raise MissingFile(f"{path}: no such file; a run keeps its checkpoint in checkpoints/last.ckpt")
    lines: list[str] = []
    try:
        content = _read(path, map_location, weights_only, lines)
    except _Unreadable as error:
        fault = str(error)
        try:
            content = _read(previous, map_location, weights_only, lines)
        except _Unreadable as other:
            if path.suffix != ".ckpt" and not previous.exists():  # not this project's file: nothing to delete
                raise UserError(
                    f"{path}: expected a run's checkpoint, such as checkpoints/last.ckpt in its run folder, found a "
                    f"file that {fault}; weights and adapters belong in model.init_args.backbone.init_args"
                ) from None
            raise UserError(
                f"{path}: expected a whole checkpoint, found a file that {fault}; the previous one, {previous}, "
                f"{other}; copy back a good checkpoint, or delete {path.name} and {previous.name} and start again"
            ) from None
        lines.insert(0, f"{path} {fault}; using the previous checkpoint, {previous}")
    if announce:
        for line in lines:
            print(f"warning: {printable(line)}", file=sys.stderr, flush=True)
    return content


class _Unreadable(Exception):
    """The fault of a checkpoint, as the end of a sentence."""


def _read(path: Path, map_location: MapLocation, weights_only: bool | None, lines: list[str]) -> dict[str, Any]:
    """The content of one file, checked against its hash; a missing hash is reported in `lines`.

    Raises:
        _Unreadable: If it does not exist, is not a checkpoint, or is damaged.
    """
    fault = damage(path)
    if fault is not None:
        raise _Unreadable(fault)
    try:
        content = torch.load(path, map_location=map_location, weights_only=weights_only)
    except Exception as error:  # torch's readers raise many kinds of errors
        wanted = wanted_call(error)
        if wanted:
            raise _Unreadable(f"is not a run's checkpoint: its pickle calls {wanted}") from None
        raise _Unreadable(f"is damaged or not a checkpoint ({reason_of(error)})") from None
    if not isinstance(content, dict):
        raise _Unreadable(f"holds a {type(content).__name__}, expected a dictionary of entries")
    expected = content.pop(HASH, None)
    if expected is None:
        lines.append(f"{path} has no hash of its content, since an earlier version wrote it; damage cannot be detected")
    elif (found := content_hash(content)) != expected:
        raise _Unreadable(f"is damaged (expected content with hash {expected}, found {found})")
    return content


def damage(path: Path) -> str | None:
    """The fault of a checkpoint, as the end of a sentence, or None.

    Reads the whole file and compares the checksum of each of its entries.
    """
    if not path.exists():
        return "does not exist"
    if path.is_dir():
        return "is a folder"
    if not path.is_file():
        return "is not a file"
    try:
        size = path.stat().st_size
        if size == 0:
            return "is empty"
        with ZipFile(path) as archive:
            entries = archive.infolist()
            if not any(entry.filename.endswith("data.pkl") for entry in entries):
                return "is not a checkpoint, but another zip archive"
            stored = all(entry.compress_type == ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > size:
                return "is damaged or not a checkpoint (an archive of compressed or overlapping entries)"
            broken = archive.testzip()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except Exception as error:  # readers of damaged archives raise many kinds of errors
        return f"is cut off, damaged or not a checkpoint ({' '.join(str(error).split())})"
    return None if broken is None else f"is damaged (wrong checksum of {broken})"


def _is_complete(path: Path) -> bool:
    """Check that the file is not truncated: cheap, and done before each replacement."""
    try:
        with ZipFile(path) as archive:
            return bool(archive.namelist())
    except Exception:  # readers of damaged archives raise many kinds of errors
        return False
