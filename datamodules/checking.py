"""Decoding every sample once before a long run, so that a bad file is found in the first minute and not in the last."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from tqdm import tqdm

from datamodules.images import ImageError
from datamodules.sources import Part, Source

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]


def usable(source: Source, labelled: bool) -> Source:
    """The samples of a source that can be read; a log line for each of the others, and their count at the end.

    Args:
        source: What to decode, once and in parallel.
        labelled: Masks are read as well, and must fit their images.

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

    with ThreadPoolExecutor() as threads:  # the decoders release the interpreter lock
        results = threads.map(problem, range(len(source)))
        problems = list(tqdm(results, "checking", len(source), unit="image", delay=5, leave=False))
    bad = [error for error in problems if error is not None]
    if not bad:
        return source
    for error in bad:
        logger.warning("skipped: %s", error)
    logger.warning("skipped %d of %d files", len(bad), len(source))
    if len(bad) == len(source):
        raise ImageError(f"expected at least one readable image, found {len(bad)} bad files; the first: {bad[0]}")
    return Part(source, [i for i, error in enumerate(problems) if error is None])
