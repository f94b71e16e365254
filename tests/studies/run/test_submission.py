"""Cells as jobs: the arrays and their order, and submitit's local executor with stages that take a moment."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import submitit
from lightning.fabric.plugins.environments import SLURMEnvironment

from src.commands.study import main
from src.core.errors import CommandLineError, UserError
from src.studies.plan.cells import Store
from src.studies.plan.study import Study
from src.studies.run import execution, submission
from src.studies.run.allocation import Allocation, further, minutes
from src.studies.run.job import stage_environment
from src.studies.run.runner import Runner
from src.studies.run.submission import arrays, executor_of, start, submit
from tests.studies.cells_on_disk import finish, study_file
from tests.studies.run.quick_job import QUICK, QuickJob


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(execution, "STAGE", (sys.executable, str(QUICK)))
    monkeypatch.setattr(submission, "CellJob", QuickJob)
    return Study.read(study_file(tmp_path / "study"))


@pytest.mark.parametrize("longest", [1, 2, 3, 1000])
def test_each_cell_is_in_one_array_at_the_place_of_the_cell_that_it_needs(
    study: Study, tmp_path: Path, longest: int
) -> None:
    store, cells = Store(tmp_path / "cells"), list(study.cells.values())
    planned = arrays(store, cells, longest)
    assert sorted(cell.identity for array in planned for cell in array.cells) == sorted(study.cells)
    for array in planned:
        assert 1 <= len(array.cells) <= longest
        for task, cell in enumerate(array.cells):
            if cell.needs is None:
                assert array.after is None
            else:
                assert array.after is not None and array.after.cells[task] == cell.needs
    if longest == 1000:  # one of all that need nothing, and two columns
        assert [len(array.cells) for array in planned] == [5, 2, 2]


def test_finished_cells_are_not_submitted_and_those_that_needed_them_start_at_once(
    study: Study, tmp_path: Path
) -> None:
    store, cells = Store(tmp_path / "cells"), list(study.cells.values())
    done = next(cell for cell in cells if cell.stage == "pretrain")
    finish(done, store)
    planned = arrays(store, cells, 1000)
    assert sum(len(array.cells) for array in planned) == len(cells) - 1
    free = [cell for array in planned if array.after is None for cell in array.cells]
    assert {cell.identity for cell in free if cell.needs is not None} == {
        cell.identity for cell in cells if cell.needs == done
    }


def test_the_batch_file_says_all_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    allocation = Allocation(4, 2, 90, "long", {"account": "lab", "cpus-per-task": "16"})
    executor = executor_of(tmp_path / "jobs", allocation, "small", 8, "17")
    slurm = executor._executor
    slurm.parameters["map_count"] = 20
    text = slurm._make_submission_file_text("python -m x", "1")
    options = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert options >= {
        "account=lab", "array=0-19%8", "cpus-per-task=16", "dependency=aftercorr:17", "gpus-per-node=4",
        "job-name=small", "kill-on-invalid-dep=yes", "nodes=2", "ntasks-per-node=1", "partition=long",
        "requeue", "signal=USR2@90", "time=90",
    }  # fmt: skip
    assert "srun --unbuffered" in text and "--cpus-per-task=16 python -m x" in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_submitted_to_the_local_executor_has_the_numbers_of_a_run_here(study: Study, tmp_path: Path) -> None:
    calm, store = Store(tmp_path / "calm"), Store(tmp_path / "runs" / "cells")
    assert Runner(calm, study.cells.values(), 1).run() == []
    jobs = submit(store, list(study.cells.values()), Allocation(), "small", None, cluster="local")
    assert [job.exception() for job in jobs] == [None] * len(study.cells)
    assert submit(store, list(study.cells.values()), Allocation(), "small", None, cluster="local") == []
    for cell in study.cells.values():
        ours, theirs = ((each.folder(cell) / "metrics.json").read_bytes() for each in (store, calm))
        assert ours == theirs
        assert completions(store.folder(cell)) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_preempted_job_is_requeued_and_resumes(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cell = Store((tmp_path / "runs" / "cells").resolve()), next(iter(study.cells.values()))
    folder = store.folder(cell)
    monkeypatch.setenv("QUICK_STAGE_PAUSE", "10")
    executor = executor_of(tmp_path / "runs" / "jobs", Allocation(), "small", 1, None, "local")
    (job,) = start(executor, [QuickJob(cell, store.root)])
    wait_for(lambda: (folder / "steps").is_file() and len((folder / "steps").read_text().split()) >= 2)
    task = int((folder / "lock").read_text().split('"processes": [')[1].split(",")[0])
    os.kill(task, signal.SIGUSR2)  # what SLURM sends before the time is over, and before preemption
    job.wait()  # the executor starts it again, as SLURM does
    assert job.exception() is None
    assert not (folder / "lock").exists()
    steps = list(map(int, (folder / "steps").read_text().split()))
    assert steps[-1] == 10 and len(steps) <= 11  # one may have been made and not kept
    assert completions(folder) == 1


def test_a_job_whose_cell_fails_fails_and_so_does_one_that_needs_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cells")
    first = next(cell for cell in study.cells.values() if cell.stage == "pretrain")
    then = next(cell for cell in study.cells.values() if cell.needs == first)
    in_a_job(monkeypatch)
    monkeypatch.setenv("QUICK_STAGE_FAILS", first.identity)
    with pytest.raises(UserError, match=f"{first.title} failed: .*log.txt"):
        QuickJob(first, store.root)()
    with pytest.raises(UserError, match=f"needs {first.title}, which is not done"):
        QuickJob(then, store.root)()


def test_a_stage_does_not_take_a_task_of_slurm_for_one_of_lightnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "small")
    in_a_job(monkeypatch)
    assert SLURMEnvironment.detect()
    monkeypatch.setattr(os, "environ", stage_environment(submitit.JobEnvironment()))
    assert not SLURMEnvironment.detect()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90:30", 91), ("12:00:00", 720), ("2-00", 2880), ("1-12:30", 2190), ("0-00:02:30", 3), ("00:10", 1)],
)
def test_times_are_read_as_slurm_does(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "12h", "-5", "1:2:3:4", "1.5", "0:0:0"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(CommandLineError, match="--time: expected"):
        minutes(text)


def test_further_options_are_passed_on_and_ours_are_refused() -> None:
    assert further(["account=lab", "--mem_per_cpu=4G"]) == {"account": "lab", "mem-per-cpu": "4G"}
    for entry in ("account", "=x", "a=", "a=b\nc", "x y=1"):
        with pytest.raises(CommandLineError, match="expected KEY=VALUE"):
            further([entry])
    for entry in ("array=1-9", "output=x", "time=5", "dependency=after:1", "gpus_per_node=2"):
        with pytest.raises(CommandLineError, match="cannot be set here"):
            further([entry])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", "2"], "--nodes: only with --launcher submitit"),
        (["--time", "1:00:00", "--slurm", "account=lab"], "--time, --slurm: only with --launcher submitit"),
        (["--gpus-per-cell", "99"], "expected at most .* GPUs, which this machine has, found 99"),
        (["--launcher", "submitit", "--nodes", "0"], "--nodes: expected at least 1, found 0"),
        (["--launcher", "submitit", "--max-hours", "2"], "--max-hours works with the local launcher only"),
        (["--launcher", "slurm"], "expected one of local, submitit, found 'slurm'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(study: Study, words: list[str], message: str) -> None:
    with pytest.raises(CommandLineError, match=message):
        main([str(study.path), *words])


def test_a_machine_without_slurm_says_so(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: -1))
    with pytest.raises(UserError, match="expected SLURM's commands on this machine, found no srun; use local"):
        main([str(study.path), "--runs", str(tmp_path / "runs"), "--launcher", "submitit"])


def completions(folder: Path) -> int:
    return len((folder / "completions").read_text().split())


def wait_for(happened: Any) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of a local job with one task."""
    for name, value in {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
