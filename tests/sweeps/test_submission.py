"""Trials as jobs of submitit's local executor: each once, and one that is preempted resumes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from src.commands.sweep import main
from src.core.errors import CommandLineError, UserError
from src.studies.run.allocation import Allocation
from src.studies.run.submission import executor_of, start
from src.sweeps.search import Search
from src.sweeps.submission import TrialJob, submit
from tests.sweeps.sweep_files import sweep, written
from tests.sweeps.test_local import starts, table


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_trial_is_a_job(tmp_path: Path) -> None:
    file, out = written(tmp_path, {"lr": {"values": [0.1, 0.001, 0.01]}}), tmp_path / "out"
    assert submit(file, out, None, Allocation(), 8, cluster="local").startswith("submitted, as jobs")
    assert sorted(one["lr"] for one in starts(out)) == ["0.001", "0.01", "0.1"]
    assert [(row["lr"], row["state"]) for row in table(out)] == [("0.001", "done"), ("0.01", "done"), ("0.1", "done")]
    assert submit(file, out, None, Allocation(), 8, cluster="local").startswith("no trial is left")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_preempted_trial_is_requeued_and_resumes(tmp_path: Path) -> None:
    file, out = (
        written(tmp_path, {"lr": {"value": 0.1}, "steps": {"value": 60}, "sleep": {"value": 0.1}}),
        tmp_path / "out",
    )
    executor = executor_of(tmp_path / "jobs", Allocation(), "sweep", 1, None, "local")
    (job,) = start(executor, [TrialJob(file, out, None)])
    deadline = time.monotonic() + 120
    while not (out / "0000" / "metrics.csv").is_file() or (out / "0000" / "metrics.csv").read_text().count("\n") < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(json.loads((out / "0000" / "lock").read_text())["processes"][0], signal.SIGUSR2)
    job.wait()  # the executor starts it again, as SLURM does
    assert job.exception() is None
    assert not (out / "0000" / "lock").exists()
    assert [one.get("ckpt_path") for one in starts(out)] == [None, "last"]
    assert (out / "0000" / "metrics.csv").read_text().count("\n") == 61  # each step once
    assert [row["state"] for row in table(out)] == ["done"]


@pytest.mark.parametrize(("limit", "expected"), [(None, 3), (2, 2), (0, 0)])
def test_what_is_left_of_a_grid(tmp_path: Path, limit: int | None, expected: int) -> None:
    assert Search(sweep(tmp_path, {"lr": {"values": [1, 2, 3]}}), tmp_path / "out", limit).left() == expected


def test_a_trial_has_one_node(tmp_path: Path) -> None:
    file = written(tmp_path, {"lr": {"value": 1}})
    with pytest.raises(UserError, match="--nodes 2: expected 1 for a sweep"):
        submit(file, tmp_path / "out", None, Allocation(nodes=2), 8, cluster="local")


def test_a_sweep_on_a_server_needs_no_launcher(tmp_path: Path) -> None:
    with pytest.raises(CommandLineError, match="only with --local"):
        main([str(written(tmp_path, {"lr": {"value": 1}})), "--launcher", "submitit"])
