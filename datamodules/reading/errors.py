"""Error messages for files and folders that cannot be used."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from PIL import Image

from src.core.errors import UserError
from src.core.printable import printable


class ImageError(UserError):
    """A file that cannot be used. Its message names the file, what was expected and found, and what to do.

    A data loader re-raises a worker's exception as `type(error)("Caught … Original Traceback …")`; the message is cut
    back to its last, readable part here, so that it is the same from any process. It is one line, whatever the file's
    name.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message.rsplit("ImageError: ", 1)[-1].strip()))


def unreadable(path: Path, kind: str, error: Exception) -> ImageError:
    """Error for a file that a decoder refused.

    Args:
        path: The file.
        kind: The expected kind: `an image`.
        error: The decoder's error.
    """
    if isinstance(error, Image.DecompressionBombError):
        size = re.search(r"\d+", str(error))
        pixels = f"one of {int(size[0]):,}" if size else "a larger one"
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return ImageError(f"{path}: expected {kind} of at most {most:,} pixels, found {pixels}; cut it into tiles")
    return ImageError(f"{path}: expected {kind}, found {_reason(path, error)}; replace or remove the file")


def refuse_folder(error: OSError) -> None:
    """Raise for a folder that `os.walk` cannot enter and would skip silently."""
    raise _no_right(error.filename, error) from error


def is_folder(path: Path) -> bool:
    """Return whether the path is a folder.

    Raises:
        ImageError: If a folder above cannot be entered, so that this is unknown; as for `is_file`.
    """
    return stat.S_ISDIR(_kind(path))


def is_file(path: Path) -> bool:
    """Return whether the path is a file."""
    return stat.S_ISREG(_kind(path))


def _kind(path: Path) -> int:
    """Kind of entry at a path, as in `stat`; 0 for nothing."""
    try:
        return path.stat().st_mode
    except PermissionError as error:
        raise _no_right(_closed(path), error) from error
    except (OSError, ValueError):  # as `os.path.isdir` does
        return 0


def _no_right(folder: Path | str, error: OSError) -> ImageError:
    return ImageError(f"{folder}: expected a readable folder, found: {error.strerror}; correct its permissions")


def _closed(path: Path) -> Path:
    """The lowest visible folder above a path, which cannot be entered."""
    for folder in path.absolute().parents:
        try:
            folder.stat()
        except PermissionError:
            continue
        return folder
    return path.parent


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "a file without read permission"
    if path.is_symlink() and not path.exists():
        return "a broken or circular symbolic link"
    if not path.exists():
        return "no file"
    if path.is_dir():
        return "a folder"
    if path.stat().st_size == 0:
        return "an empty file"
    text = str(error).replace(repr(str(path)), "").replace(str(path), "").strip() or type(error).__name__
    return f"a file that can't be read ({text})"
