"""Two network namespaces with an address of their own each, joined by a cable: a fit over both equals one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import ROOT, losses, pretraining, written

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ADDRESSES = {"glare-a": "10.111.77.1", "glare-b": "10.111.77.2"}
CABLE = "cable"  # the name of the interface in both


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def networks() -> Iterator[dict[str, str]]:
    """Address by name of the namespace."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` (package iproute2): two networks were not tested")
    try:
        for name in ADDRESSES:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"two networks were not tested, the host forbids namespaces: {error.stderr.strip()}")
    try:
        one, other = ADDRESSES
        ip("link", "add", CABLE, "netns", one, "type", "veth", "peer", "name", CABLE, "netns", other)
        for name, address in ADDRESSES.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            for device in ("lo", CABLE):
                ip("-n", name, "link", "set", device, "up")
        yield ADDRESSES
    finally:
        for name in ADDRESSES:
            ip("netns", "del", name)


def fit(path: str, variables: Mapping[str, str], *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "src", "fit", "--config", path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def test_a_fit_over_two_networks_equals_one_process(networks: dict[str, str], tmp_path: Path) -> None:
    one = fit(written(tmp_path / "one.yaml", pretraining(tmp_path / "one", max_steps=4)), {})
    assert one.wait(900) == 0, one.stdout and one.stdout.read()[-3000:]
    both = written(tmp_path / "two.yaml", pretraining(tmp_path / "two", max_steps=4, num_nodes=2, strategy="ddp"))
    common = {"MASTER_ADDR": networks["glare-a"], "MASTER_PORT": "29511", "GLOO_SOCKET_IFNAME": CABLE}
    processes = [
        fit(both, {**common, "NODE_RANK": str(rank)}, "ip", "netns", "exec", name) for rank, name in enumerate(networks)
    ]
    try:
        said = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said[0][-3000:] + said[1][-3000:]
    assert "2 processes × 2 = 4 images a step" in said[0]
    alone, shared = (load_file(tmp_path / name / "adapter.safetensors") for name in ("one", "two"))
    assert alone.keys() == shared.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(shared[name], tensor, rtol=0, atol=1e-5, msg=name)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
