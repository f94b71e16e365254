"""`sweep` with a server, and wandb's own agent: against a stand-in of its API, spoken to over HTTP."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, losses, pretraining, written
from tests.sweeps import sweep_files
from tests.sweeps.wandb_server import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_agent_runs_every_point_as_a_fit_that_is_logged_under_its_own_run(tmp_path: Path) -> None:
    config = written(tmp_path / "fit.yaml", pretraining(tmp_path / "unused"))
    command = ["${env}", "${interpreter}", "-m", "${program}", "fit", f"--config={config}", "--trainer.logger=Wandb"]
    command += [f"--trainer.default_root_dir={tmp_path}/runs/${{WANDB_RUN_ID}}", "${args}"]
    parameters = {"trainer.max_steps": {"values": [1, 2]}}
    file = sweep_files.written(tmp_path, parameters, program="src", command=command, metric={"name": "train/loss"})
    with serving() as (address, server):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        environment |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": "x" * 40, "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "src", "sweep", str(file)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"},
            stdin=subprocess.DEVNULL,  # a question would end it
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert server.given == {f"trial{n}": {"trainer.max_steps": n + 1} for n in range(2)}
    assert server.runs == {"trial0": "sweep0", "trial1": "sweep0"}
    assert {run for states in server.heartbeats for run in states} == server.given.keys()
    for run in server.given:
        folder = tmp_path / "runs" / run
        sent = [row["train/loss"] for row in server.history[run] if "train/loss" in row]
        assert sent == pytest.approx(losses(folder)) and len(sent) == server.given[run]["trainer.max_steps"]
        digest = hashlib.sha256((folder / "adapter.safetensors").read_bytes()).hexdigest()
        assert f"adapter-{digest[:12]}" in server.artifacts[run]
