"""Two processes segment as one: the same head to rounding, each image counted once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_two_ranks_train_and_count_as_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        command = [sys.executable, "-m", "tests.segmentation_ranks", str(tmp_path / str(devices)), str(devices)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=1200, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = tmp_path / "1", tmp_path / "2"
    for name in ("pixels", "cached", "pyramid"):
        torch.testing.assert_close(torch.load(two / f"{name}.pt"), torch.load(one / f"{name}.pt"), rtol=0, atol=1e-10)
    for name in (
        "pixels",
        "cached",
        "pyramid",
        "neighbours",
    ):  # an odd number of images: a padding sampler would repeat one
        with np.load(one / name / "confusion.npz") as alone, np.load(two / name / "confusion.npz") as shared:
            assert shared["names"].tolist() == [f"block-{image}.png" for image in range(5)]
            np.testing.assert_array_equal(shared["matrices"], alone["matrices"])
        assert (two / name / "evaluation.json").read_text() == (one / name / "evaluation.json").read_text()
    assert "use `validate` or `test` with several devices" in (two / "refused.txt").read_text(encoding="utf-8")
