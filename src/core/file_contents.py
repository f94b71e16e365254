"""Hash the content of a data set's files, to detect changed images and masks, but not moved ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

SAMPLES = 1000  # samples to hash, evenly spread: opening ten million files would take an hour
READ = 2**28  # bytes read of all these files together: less than a second from memory
STRIPS = 4  # pieces to read of a file larger than its share


def paths_of(source: Any, index: int) -> tuple[Path, ...]:
    """The files of a sample, from its source's `paths`; none for a source without files."""
    ask = getattr(source, "paths", None)
    return () if ask is None else tuple(ask(index))


def content_fingerprint(source: Sized) -> str:
    """Hash the content of a source's images and masks, independent of names and times.

    A small set is hashed completely. Of a large one, `SAMPLES` evenly spread samples are hashed by size and by `READ`
    bytes in total, so that other changes are not detected.

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
