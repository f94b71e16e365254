"""Decoding every file once before a long run, so that a bad one is found in the first minute and not in the last."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from datamodules.images import ImageError, read_image

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]


def readable(files: Sequence[Path], on_error: OnError) -> list[Path]:
    """The files that can be used.

    Args:
        files: Image files.
        on_error: `skip` decodes all of them, in parallel, and leaves out the bad ones with a log line each and a count.
            `raise` leaves it to the loader, which stops at the first bad one.

    Raises:
        ImageError: If none is left.
    """
    if on_error == "raise":
        return list(files)
    with ThreadPoolExecutor() as threads:  # the decoders release the interpreter lock
        results = threads.map(_problem, files)
        problems = list(tqdm(results, "checking", len(files), unit="image", delay=5, leave=False))
    good = [path for path, problem in zip(files, problems, strict=True) if problem is None]
    if bad := [problem for problem in problems if problem is not None]:
        for problem in bad:
            logger.warning("skipped: %s", problem)
        logger.warning("skipped %d of %d files", len(bad), len(files))
    if not good:
        raise ImageError(f"expected at least one readable image, found {len(files)} bad files; the first: {bad[0]}")
    return good


def _problem(path: Path) -> ImageError | None:
    try:
        read_image(path)
    except ImageError as error:
        return error
    return None
