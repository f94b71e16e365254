"""Hash of the content of a data set's files: tells changed images and masks from the same ones copied elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

SAMPLES = 1000  # whose files are compared, spread evenly: to open ten million would take an hour
READ = 2**28  # bytes of all these files together: less than a second from memory
STRIPS = 4  # pieces that are read of a file beyond its share


def paths_of(source: Any, index: int) -> tuple[Path, ...]:
    """The files that a sample is read from, as the `paths` of its source says; none where a source has no files."""
    ask = getattr(source, "paths", None)
    return () if ask is None else tuple(ask(index))


def content_fingerprint(source: Sized) -> str:
    """Hash the content of a source's images and masks, whatever they are called and whenever they were copied.

    Of a small set every byte counts. Of a large one `SAMPLES` samples, evenly spread, count by size and by as much of
    each as makes `READ` bytes in all: a change elsewhere goes unseen.

    Returns:
        32 hex digits; the same for all sources without files.
    """
    step = max(1, -(-len(source) // SAMPLES))
    return hash_of_files(path for index in range(0, len(source), step) for path in paths_of(source, index))


def hash_of_files(paths: Iterable[Path]) -> str:
    """Hash the content of files in their order, `READ` bytes in all; one that cannot be read counts as unreadable.

    Returns:
        32 hex digits.
    """
    files = list(paths)
    share = READ // max(1, len(files))
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        try:
            size = path.stat().st_size
            digest.update(f"{size};".encode())
            with path.open("rb") as file:
                if size <= share:
                    digest.update(file.read())
                    continue
                piece = max(1, share // STRIPS)
                for number in range(STRIPS):
                    file.seek((size - piece) * number // (STRIPS - 1))
                    digest.update(file.read(piece))
        except OSError:
            digest.update(b"unreadable;")
    return digest.hexdigest()
