"""Fingerprint by which processes compare the images that they read."""

from __future__ import annotations

import hashlib

from datamodules.reading.sources import Source

NAMES = 1000  # names that are compared, spread evenly: ten million would take a minute


def fingerprint(sources: list[Source]) -> str:
    """Describe images by their number and a hash of their names, such as `367 images (3f2a91c0)`."""
    names = [
        source.name(index)
        for source in sources
        for index in range(0, len(source), max(1, len(source) // NAMES))
    ]  # fmt: skip
    count = sum(map(len, sources))
    return f"{count} images ({hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:8]})"
