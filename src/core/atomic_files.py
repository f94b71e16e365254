"""Atomic file replacement: write next to the target, flush to disk, then ``os.replace``.

A reader finds the complete old or new file, whenever the writer is killed and wherever ``$TMPDIR`` is.
"""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from src.core.errors import MissingFile, Unwritable, UserError

_PREFIX = ".part-"
_TOKEN = 8  # hexadecimal digits that distinguish the temporary files of two writers
_LONGEST = 255  # bytes in one path component on common file systems
_REFUSED = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG,
)  # fmt: skip
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)  # file systems that cannot flush a folder


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Report the file or folder that the block cannot write.

    Raises:
        Unwritable: In place of the system's error: no space, no permission, or another obstacle.
        MissingFile: If the folder no longer exists.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not Path(path).parent.is_dir():
            raise MissingFile(f"{path}: its folder does not exist; was it deleted during the run?") from error
        if error.errno not in _REFUSED:
            raise
        raise Unwritable(
            f"{path}: expected a writable path, found none ({error.strerror}); free space, remove "
            "what is in the way, or choose another folder"
        ) from error


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents, unless it exists.

    Raises:
        Unwritable: If that is impossible, such as for a file of that name.
    """
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def replacing(path: str | Path, keep: str | Path | None = None) -> Iterator[Path]:
    """Replace a file atomically.

    Args:
        path: The file to write. Its folder must exist.
        keep: Keep the replaced file under this name, in the same folder.

    Yields:
        A path in the same folder, with the same suffix, for the block to write to. After the block the file and its
        folder are flushed to disk. If the block raises, the target is unchanged.

    Raises:
        FileNotFoundError: If the folder does not exist (`MissingFile`), or the block wrote nothing to its path.
        Unwritable: If the disk is full or read-only, or there is another obstacle.
    """
    target = Path(path)
    part = _beside(target)
    with writing(target):
        try:
            yield part
            _flush(part)
            if keep is not None and target.exists():
                _keep(target, Path(keep))
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        flush_folder(target.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    r"""Write a UTF-8 text file atomically, without changing line ends.

    Bytes of file names that are not UTF-8 are written as JSON and YAML read them back: `\udcff`.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def remove_leftovers(path: str | Path) -> None:
    """Remove temporary files of killed writers of `path`; only for files with a single writer."""
    target = Path(path)
    tail = _beside(target).name[len(_PREFIX) + _TOKEN :]
    for other in target.parent.iterdir():
        name = other.name
        if name.startswith(_PREFIX) and name.endswith(tail) and len(name) == len(_PREFIX) + _TOKEN + len(tail):
            other.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, if the file system supports it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _beside(target: Path) -> Path:
    """A new hidden name in the target's folder, short enough for any target, with the same ending."""
    tail = os.fsencode(f"-{target.name}")[-(_LONGEST - len(_PREFIX) - _TOKEN) :]
    return target.with_name(f"{_PREFIX}{uuid.uuid4().hex[:_TOKEN]}{tail.decode(errors='ignore')}")


def _keep(target: Path, kept: Path) -> None:
    """Give the target a second name, so that it is never missing; move it if the file system has no hard links."""
    link = _beside(kept)
    try:
        os.link(target, link)
    except OSError:
        os.replace(target, kept)
        return
    with suppress(FileNotFoundError):
        os.replace(link, kept)
        link.unlink()  # remains if both names were one file already, since replacing then does nothing


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
