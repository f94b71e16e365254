"""The constants of docs/clusters.md, measured: python -m tests.cluster.constants"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from datamodules.reading.path_list import Listing
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.run.forecast import listing
from src.studies.run.submission import arrays
from tests.studies.cells_on_disk import study_file

ROWS, SEEDS = 500, 100  # a pre-training and an evaluation each: 100,000 cells
ARRAY = 1001  # SLURM's default of MaxArraySize
IMAGES = 1_000_000
NAMES = {"ImageNet's": "n{0:08d}/n{0:08d}_{1}.JPEG", "a shard's": "shard_{0:05d}/{1:08d}.jpg", "COCO's": "{1:012d}.png"}
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of this process that the work takes, and its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def main() -> None:
    """Print one line a constant."""
    for whose, name in NAMES.items():
        files = [Path("/data") / name.format(i // 1300, i) for i in range(IMAGES)]
        print(f"listing, {whose} names: {Listing(Path('/data'), files).nbytes / IMAGES:.1f} bytes an image", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = {f"row-{index}": {"set": {"x": index}} for index in range(ROWS)}
        column = {"label": "Linear", "data": "scenes", "config": f"{folder}/segment.yaml"}
        path = study_file(Path(folder), rows=rows, seeds=list(range(SEEDS)), columns={"linear": column})
        seconds, planned = timed(lambda: Study.read(path).cells)
        cells, store = list(planned.values()), Store(Path(folder) / "cells")
        print(f"planning: {1e3 * seconds / len(cells):.2f} ms a cell ({len(cells):,} cells)", flush=True)
        seconds, submitted = timed(lambda: arrays(store, cells, ARRAY - 1))
        print(f"arrays: {1e3 * seconds / len(cells):.2f} ms a cell, {len(submitted)} submissions", flush=True)
        seconds, _ = timed(lambda: listing(store, cells))
        print(f"study --list: {1e3 * seconds / len(cells):.2f} ms a cell")
    print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
