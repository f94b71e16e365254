"""Several processes segment as one: the same head to rounding, each image counted once, fresh or resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HEADS = ("pixels", "cached", "pyramid")


def run(folder: Path, devices: int, *begun: Path) -> Path:
    """Fits and evaluations on this many processes."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.segmentation_ranks", str(folder), str(devices), *map(str, begun)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def compare(one: Path, other: Path, tolerance: float = 1e-10) -> None:
    for name in HEADS:
        heads = [torch.load(folder / f"{name}.pt") for folder in (other, one)]
        torch.testing.assert_close(*heads, rtol=0, atol=tolerance)
    for name in (*HEADS, "neighbours"):  # an odd number of images: a padding sampler would repeat one
        with np.load(one / name / "confusion.npz") as alone, np.load(other / name / "confusion.npz") as shared:
            assert shared["names"].tolist() == [f"block-{image}.png" for image in range(5)]
            np.testing.assert_array_equal(shared["matrices"], alone["matrices"])
        assert (other / name / "evaluation.json").read_text() == (one / name / "evaluation.json").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_number_of_processes_trains_and_counts_as_one_and_resumes_what_another_number_began(
    tmp_path: Path,
) -> None:
    one, two, four = (run(tmp_path / str(devices), devices) for devices in (1, 2, 4))
    compare(one, two)
    compare(one, four)
    resumed = 1e-7  # float32's rounding of what is restored
    compare(one, run(tmp_path / "resumed-1", 1, four), resumed)
    compare(one, run(tmp_path / "resumed-4", 4, one), resumed)
    assert "use `validate` or `test` with several devices" in (two / "refused.txt").read_text(encoding="utf-8")
