"""Exchange a folder: build the new one aside, move the old one away, move the new one in.

Nothing is deleted before it is replaced. Temporary folders are in ``.exchange/`` next to the folder, on the same file
system.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from src.core.atomic_files import flush_folder
from src.core.errors import UserError


@contextmanager
def exchanging(folder: str | Path) -> Iterator[Path]:
    """Replace a folder by a new one, or leave it unchanged. One process at a time may exchange the same folder.

    Args:
        folder: The folder to replace; it need not exist.

    Yields:
        An empty folder of the same name for the block to fill. If the block raises, `folder` is unchanged.

    Raises:
        UserError: If `folder` is not a folder.
    """
    target = Path(folder)
    recover(target)
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: expected a folder to replace, found a file; move it away")
    new, old = _aside(target, "new"), _aside(target, "old")
    try:
        new.mkdir(parents=True)
        yield new
        _flush(new)
        if target.exists() or target.is_symlink():
            old.parent.mkdir(exist_ok=True)
            os.replace(target, old)
        os.replace(new, target)
        flush_folder(target.parent)
    finally:
        recover(target)


def recover(folder: str | Path) -> None:
    """Clean up after a killed exchange: restore the old folder if it was not replaced, and remove the rest."""
    target = Path(folder)
    old = _aside(target, "old")
    if old.is_dir() or old.is_symlink():
        if target.exists() or target.is_symlink():
            _remove(old)
        else:
            os.replace(old, target)
    _remove(_aside(target, "new"))
    for left in (old.parent, _aside(target, "new").parent, old.parent.parent):
        with suppress(OSError):  # missing, or not empty because another exchange is running
            left.rmdir()


def _aside(target: Path, kind: str) -> Path:
    return target.parent / ".exchange" / kind / target.name


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)


def _flush(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            flush_folder(path)
        elif path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
