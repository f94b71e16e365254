"""A cell as a cluster job, pickled by submitit and called on each node of the job."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from src.core.errors import UserError
from src.core.json_files import read_json, write_json
from src.studies.plan.cells import Cell, Store
from src.studies.run.execution import stage_process
from src.studies.run.runner import Runner

try:
    import submitit as submitit  # for others to import from here, with this message
except ImportError as error:
    raise UserError("--launcher submitit needs submitit: pip install 'glare-lightning[cluster]'") from error

PATIENCE = 600.0  # seconds that a further node waits for the first one to make the cell ready
POLL = 0.5
INTERRUPTED = "exit code 130"
PORTS = 15000, 20000  # first, and how many: of the process group of a job on several nodes


@dataclass
class CellJob:
    """Runs one cell in a job, under the cell's lock, from its checkpoint if there is one.

    The job itself has no state; all of it is in the cell, so another job can continue.

    Args:
        cell: The cell.
        root: Folder of the cells, an absolute path that all nodes have.
        gpus: GPUs on each node.
        nodes: Nodes.
    """

    cell: Cell
    root: Path
    gpus: int = 1
    nodes: int = 1
    _runner: Runner | None = field(default=None, repr=False)

    def __call__(self) -> str:
        """Run the cell; returns its hash.

        Raises:
            UserError: If the cell failed, or the one that it needs is not done. The job fails, and so do those that
                wait for it.
        """
        store, folder = Store(self.root), Store(self.root).folder(self.cell)
        if self.cell.needs is not None and not store.done(self.cell.needs):
            raise UserError(f"{self.cell.title} needs {self.cell.needs.title}, which is not done")
        job = submitit.JobEnvironment()
        environment = stage_environment(job)
        if job.num_nodes > 1 and job.node > 0:
            self._follow(folder, attempt(job), environment)
            return self.cell.identity
        self._runner = Runner(store, [self.cell], 1, gpus=self.gpus, nodes=self.nodes, environment=environment)
        if self.nodes > 1:
            self._runner.started = lambda: write_json(folder / "attempt.json", attempt(job))
        if self._runner.run():
            failure = store.failure(self.cell)
            if failure is not None and failure["reason"] == INTERRUPTED:
                time.sleep(PATIENCE)  # the job is preempted or cancelled; one that ended now would not be requeued
            raise UserError(f"{self.cell.title} failed: {folder / 'log.txt'}")
        return self.cell.identity

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Interrupt the cell and free its lock: submitit calls this before the job is preempted or runs out of time."""
        if self._runner is not None:
            self._runner.stop()
        return submitit.helpers.DelayedSubmission(replace(self, _runner=None))

    def _follow(self, folder: Path, expected: dict[str, str], environment: dict[str, str]) -> None:
        """Run the processes of a further node, once the first one has made the cell ready.

        Raises:
            UserError: If that never happens, or they fail.
        """
        deadline = time.monotonic() + PATIENCE
        while read_json(folder / "attempt.json") != expected:
            if time.monotonic() > deadline:
                raise UserError(f"{folder}: the first node did not prepare it; do all nodes share this folder?")
            time.sleep(POLL)
        process = stage_process(folder, self.cell.stage, environment)
        try:
            code = process.wait()
        finally:
            stop(process)
        if code != 0:
            raise UserError(f"{self.cell.title} failed with exit code {code}: {folder / 'log.txt'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs."""
    if process.poll() is None:
        process.kill()
        process.wait()


def attempt(job: submitit.JobEnvironment) -> dict[str, str]:
    """Identifier of one start of a job, different when the job is requeued."""
    return {"job": str(job.job_id), "restarts": os.environ.get("SLURM_RESTART_COUNT", "0")}


def stage_environment(job: submitit.JobEnvironment) -> dict[str, str]:
    """The environment of a stage in a job.

    A task a node starts that node's processes, where SLURM's own way has a task for each process: under the job name
    `bash`, Lightning does not take this one for theirs.
    """
    environment = {**os.environ, "SLURM_JOB_NAME": "bash"}
    if job.num_nodes > 1:
        first, count = PORTS
        number = int("".join(filter(str.isdigit, str(job.job_id))) or 0)
        environment |= {
            "MASTER_ADDR": job.hostnames[0],
            "MASTER_PORT": str(first + number % count),
            "NODE_RANK": str(job.node),
        }
    return environment
