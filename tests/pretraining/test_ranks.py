"""Two processes with batch n are one process with batch 2n (docs/method.md, statement 6)."""

import os
import subprocess
import sys

import pytest
import torch


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["centring", "sinkhorn"])
def test_two_ranks_with_batch_n_equal_one_process_with_batch_2n(targets, tmp_path):
    results = []
    for devices in (1, 2):
        file = tmp_path / f"{devices}.pt"
        command = [sys.executable, "-m", "tests.ranks", str(file), str(devices), targets]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(torch.load(file))
    one, two = results
    assert one.keys() == two.keys() and len(one["losses"]) == 3
    assert torch.allclose(one["logged"][::2], one["losses"], rtol=0, atol=1e-6)  # Lightning keeps them in float32
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=0, atol=1e-5 if name == "logged" else 1e-10), (
            name,
            (one[name] - two[name]).abs().max(),
        )
