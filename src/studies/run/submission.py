"""The cells of a study as arrays of jobs, through submitit: each cell after the one that it needs.

SLURM itself enforces the order. Cells that need nothing are one array. Those that need a cell of it are further arrays
in which task i waits for task i of the first (`aftercorr`): the first dependants of all cells, the second ones, and so
on. So a study of any size is as many submissions as a cell has dependants, times its arrays of full length.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.core.atomic_files import make_folder
from src.core.errors import UserError
from src.core.import_path import for_children
from src.studies.plan.cells import Cell, Store
from src.studies.run.allocation import Allocation
from src.studies.run.job import CellJob, submitit

RESUMES = 1000  # most times a job may time out and be requeued (our choice)
WARNING = 90  # seconds before the end of a job at which its cell writes a checkpoint
USUAL_ARRAY = 1000  # longest array, if the cluster does not state it


@dataclass(frozen=True)
class Array:
    """Cells that are submitted together.

    Attributes:
        cells: Task i runs cell i.
        after: Array whose task i has to succeed before task i starts; None if they can start at once.
    """

    cells: tuple[Cell, ...]
    after: Array | None = None


def arrays(store: Store, cells: Sequence[Cell], longest: int) -> list[Array]:
    """Plan the arrays of a study's unfinished cells, each after the one that it waits for.

    Args:
        store: Where the cells are.
        cells: All cells, each after the one it needs.
        longest: Tasks of the longest array.
    """
    missing = [cell for cell in cells if not store.done(cell)]
    planned = {cell.identity for cell in missing}
    dependants: dict[str, list[Cell]] = {cell.identity: [] for cell in missing}
    first: list[Cell] = []
    for cell in missing:
        if cell.needs is not None and cell.needs.identity in planned:
            dependants[cell.needs.identity].append(cell)
        else:
            first.append(cell)
    first.sort(key=lambda cell: -len(dependants[cell.identity]))  # stable; task i of each array is then of one cell
    result: list[Array] = []
    for start in range(0, len(first), longest):
        base = Array(tuple(first[start : start + longest]))
        result.append(base)
        most = len(dependants[base.cells[0].identity])
        result += [
            Array(tuple(found[n] for cell in base.cells if len(found := dependants[cell.identity]) > n), base)
            for n in range(most)
        ]
    return result


def submit(
    store: Store, cells: Sequence[Cell], allocation: Allocation, name: str, jobs: int | None, cluster: str = "slurm"
) -> list[Any]:
    """Submit the unfinished cells; returns submitit's jobs, in the order of the arrays.

    Args:
        store: Where the cells are: a folder that all nodes share.
        cells: All cells of the study.
        allocation: Resources of each.
        name: Name of the jobs.
        jobs: Most cells that run at a time; None for as many as the cluster gives.
        cluster: slurm, or local: processes of this machine, one array after the other.

    Raises:
        UserError: If SLURM refuses, with what it says.
    """
    check_cluster(cluster)
    planned = arrays(store, cells, longest_array() if cluster == "slurm" else USUAL_ARRAY)
    root = store.root.resolve()
    numbers: dict[int, str] = {}
    submitted: list[Any] = []
    for array in planned:
        after = None if array.after is None else numbers[id(array.after)]
        executor = executor_of(
            root.parent / "jobs", allocation, name, len(array.cells) if jobs is None else jobs, after, cluster
        )
        work = [CellJob(cell, root, allocation.gpus, allocation.nodes) for cell in array.cells]
        made = start(executor, work)
        numbers[id(array)] = made[0].job_id.partition("_")[0]
        submitted += made
        if cluster != "slurm":
            for job in made:
                job.wait()
    return submitted


def start(executor: Any, work: Sequence[Any]) -> list[Any]:
    """Submit callables as one array.

    Raises:
        UserError: If SLURM refuses, with what it says.
    """
    before = dict(os.environ)
    os.environ.update(for_children(os.environ))  # the jobs import this package, wherever they start
    try:
        with executor.batch():
            made = [executor.submit(each) for each in work]
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"sbatch refused the jobs: {' '.join(str(error).split())}") from None
    except submitit.core.utils.FailedSubmissionError as error:
        raise UserError(f"sbatch: {error}") from None
    finally:
        os.environ.clear()
        os.environ.update(before)
    return made


def executor_of(
    folder: Path, allocation: Allocation, name: str, parallel: int, after: str | None, cluster: str = "slurm"
) -> Any:
    """submitit's executor for an array of jobs with this allocation, after another array if any."""
    make_folder(folder)
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=RESUMES)
    executor.update_parameters(
        timeout_min=allocation.minutes,
        nodes=allocation.nodes,
        tasks_per_node=1,
        slurm_job_name=name,
        slurm_array_parallelism=parallel,
        slurm_signal_delay_s=WARNING,
    )
    if allocation.gpus:
        executor.update_parameters(gpus_per_node=allocation.gpus)
    if allocation.partition is not None:
        executor.update_parameters(slurm_partition=allocation.partition)
    further: dict[str, Any] = {**allocation.slurm, "requeue": True}
    if after is not None:
        further |= {"dependency": f"aftercorr:{after}", "kill-on-invalid-dep": "yes"}
    if "cpus-per-task" in further:  # srun no longer takes this over from sbatch
        executor.update_parameters(slurm_srun_args=[f"--cpus-per-task={further['cpus-per-task']}"])
    executor.update_parameters(slurm_additional_parameters=further)
    return executor


def check_cluster(cluster: str) -> None:
    """Refuse a cluster that is not there.

    Raises:
        UserError: If this machine has no SLURM.
    """
    if cluster == "slurm" and submitit.SlurmExecutor.affinity() < 0:
        raise UserError("--launcher submitit: expected SLURM's commands on this machine, found no srun; use local")


def longest_array() -> int:
    """Number of tasks that the cluster allows in an array."""
    try:
        told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return USUAL_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", told.stdout, re.MULTILINE)
    return max(1, int(found[1]) - 1) if found else USUAL_ARRAY


def summary(jobs: Sequence[Any], cells: int) -> str:
    """A line on what was submitted."""
    arrays = list(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
    return f"{len(jobs)} of {cells} stages submitted, as jobs {', '.join(arrays)}; squeue --me shows them"
