"""Unpack untrusted archives: no path leaves the folder, size and count are bounded."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from src.core.atomic_files import writing
from src.core.errors import UserError

# errors of the decoders for broken, truncated or encrypted archives
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, UnicodeError,
)  # fmt: skip
# errors of the system that an archive can cause, by its names and offsets; all others are those of the machine
_OF_ARCHIVE = frozenset(
    {None, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)


class ArchiveError(UserError):
    """An archive that is broken or refused."""


class _Member(NamedTuple):
    name: str
    size: int
    plain: bool  # a regular file: no link, no device
    read: Callable[[], IO[bytes]]


def unpack(archive: Path, root: Path, place: Callable[[str], str | None], max_files: int, max_bytes: int) -> list[Path]:
    """Unpack some files of a zip or tar archive.

    Everything is checked first, then written to a hidden folder, and moved to its place when complete: an earlier
    failure leaves nothing behind.

    Args:
        archive: The file.
        root: Target folder; files of the same names are replaced.
        place: Map from a path in the archive to a path below `root`; None leaves the file out.
        max_files: Largest number of files in it, selected or not.
        max_bytes: Largest total size of all files, unpacked.

    Returns:
        The files, in the archive's order.

    Raises:
        ArchiveError: If it is not such an archive or is broken, a path leaves the folder, a selected file is a link or
            a device or occurs twice, or there is more than the bounds allow.
        UserError: If the files cannot be written to the folder.
    """
    try:
        with _members(archive) as members:
            taken = _checked(archive, members, place, max_files, max_bytes)
            with tempfile.TemporaryDirectory(dir=root, prefix=".unpacking-") as staging:
                for target, member in tqdm(taken.items(), archive.name, unit="file", delay=1):
                    path = Path(staging, target)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with member.read() as source, path.open("wb") as file:
                        shutil.copyfileobj(source, file, 2**20)
                    if path.stat().st_size != member.size:
                        raise ArchiveError(f"{archive}: expected {member.size} bytes of {member.name}, found fewer")
                for target in taken:
                    with writing(root / target):  # an obstacle there is not the archive's
                        (root / target).parent.mkdir(parents=True, exist_ok=True)
                        os.replace(Path(staging, target), root / target)
    except UserError:
        raise
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno not in _OF_ARCHIVE:
            raise UserError(
                f"{root}: {archive.name} could not be unpacked there ({error}); run the command again"
            ) from error
        raise ArchiveError(f"{archive}: expected a complete archive, found a damaged one ({error})") from error
    return [root / target for target in taken]


def _checked(
    archive: Path, members: Iterator[_Member], place: Callable[[str], str | None], max_files: int, max_bytes: int
) -> dict[str, _Member]:
    """Path below the root → member, if all is well."""
    taken: dict[str, _Member] = {}
    size = 0
    for count, member in enumerate(members, start=1):
        if not is_inside(member.name):
            raise ArchiveError(f"{archive}: expected paths that stay inside the folder, found {member.name!r}")
        size += member.size
        if count > max_files or size > max_bytes:
            raise ArchiveError(f"{archive}: expected at most {max_files:,} files and {max_bytes:,} bytes, found more")
        target = place(member.name)
        if target is None:
            continue
        assert is_inside(target), target
        if not member.plain:
            raise ArchiveError(f"{archive}: expected files, found the link or device {member.name!r}")
        if target in taken:
            raise ArchiveError(f"{archive}: expected each file once, found {member.name!r} twice")
        taken[target] = member
    return taken


def is_inside(name: str) -> bool:
    """Return whether a path of an archive stays inside the target folder, on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts and ":" not in name


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """All entries of an archive except folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield (_of_zip(file, info) for info in file.infolist() if not info.is_dir())
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield (_of_tar(tar, entry) for entry in tar if not entry.isdir())
    else:
        raise ArchiveError(f"{archive}: expected a zip or tar archive, found something else")


def _of_zip(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = info.external_attr >> 28  # the upper bits of a Unix mode: 8 is a regular file, 0 a system without modes
    return _Member(info.filename, info.file_size, kind in (0, 8), lambda: file.open(info))


def _of_tar(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> _Member:
    def read() -> IO[bytes]:
        content = tar.extractfile(entry)
        assert content is not None
        return content

    return _Member(entry.name, entry.size, entry.isreg(), read)
