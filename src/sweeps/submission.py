"""The trials of a sweep without a server as jobs of SLURM, through submitit: an array of as many jobs as trials."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.core.errors import UserError
from src.studies.run.allocation import Allocation
from src.studies.run.job import submitit
from src.studies.run.submission import check_cluster, executor_of, longest_array, start
from src.sweeps import local, process
from src.sweeps.definition import Sweep, several_processes
from src.sweeps.search import Search


@dataclass
class TrialJob:
    """Runs the next trial of a sweep in a job: one that another job left, else a new one.

    The job itself has no state; all of it is in the sweep's folder, so another job can continue.

    Args:
        file: The sweep, an absolute path that all nodes have.
        folder: Where its trials are, likewise.
        limit: Trials in all.
        gpus: GPUs of a trial.
    """

    file: Path
    folder: Path
    limit: int | None
    gpus: int = 1
    _trial: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> None:
        """Run one trial, if any is left."""
        options = several_processes(self.gpus)
        local.LocalSweep(Sweep.read(self.file), self.folder, self.limit, 1, options, self._started).run()

    def _started(self, trial: subprocess.Popen[bytes]) -> None:
        self._trial = trial

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Interrupt the trial: submitit calls this before the job is preempted or runs out of time."""
        if self._trial is not None:
            process.stop(self._trial)
        return submitit.helpers.DelayedSubmission(replace(self, _trial=None))


def submit(
    file: Path, folder: Path, limit: int | None, allocation: Allocation, jobs: int, cluster: str = "slurm"
) -> str:
    """Submit the trials that are missing; returns a sentence that says so.

    Args:
        file: The sweep.
        folder: Where its trials are: a folder that all nodes share.
        limit: Trials in all; None for a grid, which ends by itself.
        allocation: Resources of a trial.
        jobs: Most trials that run at a time.
        cluster: slurm, or local: processes of this machine.

    Raises:
        UserError: If a trial should have several nodes, or SLURM refuses.
    """
    check_cluster(cluster)
    if allocation.nodes > 1:
        raise UserError(f"--nodes {allocation.nodes}: expected 1 for a sweep, whose trials are processes of one node")
    sweep = Sweep.read(file)
    left = Search(sweep, folder, limit).left()
    if not left:
        return f"no trial is left; {folder / 'table.md'}"
    work = TrialJob(file.resolve(), folder.resolve(), limit, allocation.gpus)
    arrays: list[str] = []
    while left:
        count = min(left, longest_array() if cluster == "slurm" else left)
        executor = executor_of(folder.resolve() / "jobs", allocation, sweep.name, jobs, None, cluster)
        made = start(executor, [work] * count)
        arrays.append(made[0].job_id.partition("_")[0])
        if cluster != "slurm":
            for job in made:
                job.wait()
        left -= count
    return f"submitted, as jobs {', '.join(arrays)}; squeue --me shows them, {folder / 'table.md'} the trials"
