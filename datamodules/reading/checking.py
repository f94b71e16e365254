"""Decode every sample once before a long run, to find bad files early."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from tqdm import tqdm

from datamodules.reading.decoders import DECODERS
from datamodules.reading.errors import ImageError
from datamodules.reading.sources import Source, Subset

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]

_AT_ONCE = 1000  # a thread pool keeps half a kilobyte per submitted task: too much for a million images


def usable(source: Source, labelled: bool) -> Source:
    """Keep the readable samples of a source; log each of the others, and their count at the end.

    Args:
        source: Samples to decode, once and in parallel.
        labelled: Also read masks, which must fit their images.

    Raises:
        ImageError: If no sample is left.
    """

    def problem(index: int) -> ImageError | None:
        try:
            if labelled:
                source.pair(index)
            else:
                source.image(index)
        except ImageError as error:
            return error
        return None

    bad: dict[int, ImageError] = {}
    with (
        ThreadPoolExecutor(DECODERS) as threads,
        tqdm(total=len(source), desc="checking", unit="image", delay=5) as bar,
    ):
        for start in range(0, len(source), _AT_ONCE):  # the decoders release the interpreter lock
            places = range(start, min(start + _AT_ONCE, len(source)))
            bad |= {i: error for i, error in zip(places, threads.map(problem, places), strict=True) if error}
            bar.update(len(places))
    if not bad:
        return source
    for error in bad.values():
        logger.warning("skipped: %s", error)
    logger.warning("skipped %d of %d files", len(bad), len(source))
    if len(bad) == len(source):
        raise ImageError(f"expected at least one readable image, found {len(bad)} bad files; the first: {bad[0]}")
    return Subset(source, np.delete(np.arange(len(source)), list(bad)))
