"""Several processes with a share of the batch each are one process with all of it (docs/method.md, statement 6)."""

import os
import subprocess
import sys

import pytest
import torch


def fit(file, devices, targets, *resume):
    """The losses and the state of a fit on this many processes."""
    command = [sys.executable, "-m", "tests.ranks", str(file), str(devices), targets, *map(str, resume)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(file)


def compare(one, other, names, tolerance=1e-10):
    for name in names:
        allowed = 1e-5 if name == "logged" else tolerance
        assert torch.allclose(one[name], other[name], rtol=0, atol=allowed), (
            name,
            (one[name] - other[name]).abs().max(),
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("targets", "most"), [("centring", 4), ("sinkhorn", 2), ("distillation", 2), ("instance", 2)])
def test_any_number_of_processes_trains_as_one_and_resumes_what_another_number_began(targets, most, tmp_path):
    counts = [1, 2, 4][: most.bit_length()]
    results = {devices: fit(tmp_path / f"{devices}.pt", devices, targets) for devices in counts}
    one = results[1]
    assert len(one["losses"]) == 3
    losses = one["logged"][:: len(one["logged"]) // 3]  # beside an entropy, where there are targets to have one
    assert torch.allclose(losses, one["losses"], rtol=0, atol=1e-6)  # Lightning keeps them in float32
    for other in results.values():
        assert one.keys() == other.keys()
        compare(one, other, one)
    for devices in counts:  # 1 goes on with what 4 began, 2 with what 1 began, 4 with what 2 began
        began = counts[counts.index(devices) - 1]
        resumed = fit(tmp_path / f"resumed-{devices}.pt", devices, targets, tmp_path / f"{began}.ckpt")
        assert len(resumed["losses"]) == 1
        compare(one, resumed, one.keys() - {"losses", "logged"}, 1e-7)  # float32's rounding of what is restored
        assert torch.allclose(one["losses"][2:], resumed["losses"], rtol=0, atol=1e-6)
