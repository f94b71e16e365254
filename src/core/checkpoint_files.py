"""Checkpoint files that survive a kill: written atomically, with the previous one kept and used if the newest is bad.

`last.ckpt` is replaced by ``os.replace``, and the file it replaces becomes `last.previous.ckpt`.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from src.core.atomic_files import make_folder, remove_leftovers, replacing
from src.core.checkpoint_paths import checkpoint_exists, previous_of
from src.core.errors import MissingFile, UserError

MapLocation = str | torch.device | dict[str, str] | Callable[[Any, str], Any] | None


def save_checkpoint(checkpoint: Any, path: str | Path) -> None:
    """Write a checkpoint atomically and keep the one it replaces, unless that one is cut off.

    Args:
        checkpoint: Anything that ``torch.save`` accepts.
        path: The target; its folder is made. A single process writes to it at a time.
    """
    path, previous = Path(path), previous_of(path)
    make_folder(path.parent)
    for file in (path, previous):
        remove_leftovers(file)
    with replacing(path, keep=previous if _is_complete(path) else None) as part, part.open("wb") as stream:
        torch.save(checkpoint, stream)  # to a stream: given a path, torch writes the file's name into it


def load_checkpoint(
    path: str | Path, map_location: MapLocation = "cpu", weights_only: bool | None = True, announce: bool = True
) -> Any:
    """Load a checkpoint; if it cannot be read whole, load the previous one and say so in one line on stderr.

    Args:
        path: A file that `save_checkpoint` or ``torch.save`` wrote.
        map_location: As in ``torch.load``.
        weights_only: As in ``torch.load``.
        announce: Print the line. One process of several is enough.

    Raises:
        MissingFile: If there is neither the file nor a previous one.
        UserError: If none of the two can be read whole.
    """
    path, previous = Path(path), previous_of(path)
    fault = damage(path)
    if fault is None:
        return torch.load(path, map_location=map_location, weights_only=weights_only)
    if not checkpoint_exists(path):
        raise MissingFile(f"{path}: no such file; a run keeps its checkpoint in checkpoints/last.ckpt")
    fault_before = damage(previous)
    if fault_before is not None:
        raise UserError(
            f"{path}: expected a whole checkpoint, found a file that {fault}; the previous one, {previous}, "
            f"{fault_before}; copy back a good checkpoint, or delete {path.name} and {previous.name} and start anew"
        )
    if announce:
        print(f"warning: {path} {fault}; using the previous checkpoint, {previous}", file=sys.stderr, flush=True)
    return torch.load(previous, map_location=map_location, weights_only=weights_only)


def damage(path: Path) -> str | None:
    """The reason why a checkpoint cannot be read whole, as the end of a sentence, or None.

    Reads the whole file and compares the checksum of each of its entries.
    """
    if not path.exists():
        return "does not exist"
    if not path.is_file():
        return "is not a file"
    if path.stat().st_size == 0:
        return "is empty"
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            if not any(name.endswith("data.pkl") for name in names):
                return "is not a checkpoint, but another zip archive"
            broken = archive.testzip()
    except (BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        return f"is cut off, damaged or not a checkpoint ({' '.join(str(error).split())})"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None if broken is None else f"is damaged (wrong checksum of {broken})"


def _is_complete(path: Path) -> bool:
    """Whether the end of the file is there: a cheap check, made before each replacement."""
    try:
        with ZipFile(path) as archive:
            return bool(archive.namelist())
    except (BadZipFile, OSError, EOFError, NotImplementedError):
        return False
