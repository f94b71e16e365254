"""Resumable downloads that get their final name once they are complete and verified."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from src.core.atomic_files import writing
from src.core.errors import Unwritable, UserError

_TRIES = 5  # in a row without a single new byte
_PAUSE = 1.0  # seconds; twice as long after one such try, four times after the second, and so on
_TIMEOUT = 60.0  # seconds without an answer
_BLOCK = 2**20
_NETWORK = (OSError, http.client.HTTPException)  # URLError, timeouts, resets, broken answers


class DownloadError(UserError):
    """A file that could not be downloaded, or has the wrong checksum."""


@dataclass(frozen=True)
class Download:
    """A file on the network.

    Attributes:
        name: Its name on disk.
        urls: Its addresses, the official one first; empty if it has to be downloaded by hand.
        digest: `algorithm:hex`; None where no checksum is published, or the server does not promise its bytes.
    """

    name: str
    urls: tuple[str, ...]
    digest: str | None = None


def fetch(download: Download, folder: Path) -> Path:
    """Download a file, or the missing rest of it.

    Until it is complete and its checksum is right it is called `NAME.part`, which a later call resumes. A download with
    a wrong checksum is removed, and the next address tried.

    Returns:
        The file.

    Raises:
        DownloadError: If no address has the right file, or a different file exists already.
        Unwritable: If the disk is full, or has too little space for the file.
    """
    path = folder / download.name
    if path.is_file():  # of an earlier call, or placed there by hand
        check(path, download)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = []
    for url in download.urls:
        try:
            _transfer(url, part, resumable=download.digest is not None)
        except UserError:
            raise
        except _NETWORK as error:
            failures.append(f"{url}: {error}")
            continue
        _validator(part).unlink(missing_ok=True)
        if difference := _difference(part, download):
            part.unlink()
            failures.append(f"{url}: {difference}")
            continue
        os.replace(part, path)
        return path
    raise DownloadError(
        f"{path}: the download failed ({'; '.join(failures)}); run the command again to resume it, or put the file "
        "there by hand"
    )


def check(path: Path, download: Download) -> None:
    """Compare a file with its published checksum, where there is one.

    Raises:
        DownloadError: If they differ.
    """
    if difference := _difference(path, download):
        raise DownloadError(f"{path}: {difference}; replace or remove it")


def _difference(path: Path, download: Download) -> str | None:
    """Actual and expected checksum of a file; None if they agree, or none is published."""
    if download.digest is None:
        return None
    algorithm, expected = download.digest.split(":")
    found = digest(path, algorithm)
    return None if found == expected else f"expected {algorithm} {expected}, found {found}"


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _transfer(url: str, part: Path, resumable: bool) -> None:
    """Append to `part` until it is complete; retries as long as new bytes arrive."""
    failed = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _once(url, part, resumable):
                return
            error: Exception = ConnectionError("the connection closed before the end of the file")
        except UserError:  # of this machine, such as a full disk: neither a retry nor another address helps
            raise
        except urllib.error.HTTPError as answer:
            if 400 <= answer.code < 500:
                raise  # another request gives the same answer
            error = answer
        except _NETWORK as problem:
            error = problem
        after = part.stat().st_size if part.exists() else 0
        failed = 0 if after > before else failed + 1
        if failed == _TRIES:
            raise error
        time.sleep(_PAUSE * 2**failed if failed else 0)


def _once(url: str, part: Path, resumable: bool) -> bool:
    """Send one request; return whether the file is complete now.

    Without a checksum, a partial file is only continued if the server confirms that it is of the same version.
    """
    validator = _validator(part)
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "glare-lightning", "Accept-Encoding": "identity"}
    if start and validator.exists():
        headers |= {"Range": f"bytes={start}-", "If-Range": validator.read_text()}
    elif start and resumable:
        headers["Range"] = f"bytes={start}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return True  # nothing is missing
        part.unlink()
        return False
    with answer, writing(part):
        if answer.status != 206:
            start = 0  # the server sends the whole file again
        if (tag := answer.headers.get("ETag")) and not tag.startswith("W/"):
            validator.write_text(tag)
        else:
            validator.unlink(missing_ok=True)
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None and total - start > (free := shutil.disk_usage(part.parent).free):
            needed = (total - start) / 1e9
            raise Unwritable(
                f"{part}: expected {needed:.3g} GB of space for the download, found {free / 1e9:.3g} GB; free space or "
                "name another folder with --root"
            )
        bar = tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True, unit_divisor=1024, delay=1)
        with bar, part.open("ab" if start else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    return total is None or part.stat().st_size == total


def _validator(part: Path) -> Path:
    """Next to an unfinished file: the server's name for its version (ETag)."""
    return part.with_name(part.name + ".etag")
