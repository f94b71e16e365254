"""Summary of a folder of images and masks, printed before a run starts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datamodules.reading.decoders import DECODERS
from datamodules.reading.errors import ImageError
from datamodules.reading.masks import IGNORE
from datamodules.reading.sources import Files
from datamodules.reading.unused import unused_parts
from src.core.printable import printable

AT_MOST = 500  # images decoded, evenly spread: at most a minute for photographs, however large the folder
SHOWN = 5  # problems that are listed in full


def summarise(split: str, files: Files, class_names: Sequence[str]) -> str:
    """Describe a split in a few lines: count, sizes, share of each class, unused parts and unusable files.

    Files are read as in training, so that everything that would stop it is found in those inspected.

    Args:
        split: Its name.
        files: Its images, and masks if there are any.
        class_names: In the order of the classes; unused without masks.
    """
    looked = sorted({round(i) for i in np.linspace(0, len(files) - 1, min(AT_MOST, len(files)))})

    def look(index: int) -> tuple[tuple[int, int] | None, np.ndarray, str | None, list[str]]:
        counts = np.zeros(256, np.int64)
        try:
            if files.masks is None:
                image = files.image(index)
            else:
                image, mask = files.pair(index)
                counts = np.bincount(mask.ravel(), minlength=256)
            parts = unused_parts(files.images[index], image)
        except ImageError as error:
            return None, counts, str(error), []
        return (image.shape[1], image.shape[0]), counts, None, parts

    with ThreadPoolExecutor(DECODERS) as threads:
        found = list(threads.map(look, looked))
    sizes = np.array([size for size, *_ in found if size is not None]).reshape(-1, 2)
    problems = [problem for _, _, problem, _ in found if problem is not None]
    lines = [f"{split}: {len(files)} images" + ("" if len(looked) == len(files) else f", of which {len(looked)} seen")]
    if len(sizes):
        lines.append(f"  width {_spread(sizes[:, 0])}, height {_spread(sizes[:, 1])} pixels")
    if files.masks is not None:
        lines += _classes(np.sum([counts for _, counts, *_ in found], axis=0), class_names)
    lines += _unused([(files.name(i), parts) for i, (*_, parts) in zip(looked, found, strict=True)])
    lines.append(f"  problems: {len(problems) or 'none'}")
    lines += [f"    {problem}" for problem in problems[:SHOWN]]
    return "\n".join(map(printable, lines))


def _unused(files: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """One line for each kind of unused part, with the number of files and the first."""
    kinds = dict.fromkeys(part for _, parts in files for part in parts)
    having = {kind: [name for name, parts in files if kind in parts] for kind in kinds}
    return [
        f"  not used: {kind} ({len(names)} image{'s' * (len(names) > 1)}, {names[0]}{' first' * (len(names) > 1)})"
        for kind, names in having.items()
    ]


def _spread(values: np.ndarray) -> str:
    if values.min() == values.max():
        return str(values[0])
    return f"{values.min()} to {values.max()} (median {int(np.median(values))})"


def _classes(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    labelled = max(1, int(counts[:IGNORE].sum()))
    width = max(map(len, names))
    lines = [f"  {name:<{width}} {counts[c] / labelled:7.2%}" for c, name in enumerate(names)]
    return [*lines, f"  of labelled pixels; {counts[IGNORE] / max(1, int(counts.sum())):.2%} are ignored"]
