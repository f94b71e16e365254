"""One trial as a process: a fit in a run folder of its own, watched through its metrics.csv."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna

from src.core.checkpoint_paths import checkpoint_exists
from src.core.errors import UserError
from src.core.import_path import for_children
from src.core.metrics_table import read_columns
from src.studies.results.curves import read_curves
from src.studies.run.execution import BEHIND_USER_SIGNALS
from src.sweeps.definition import Sweep
from src.sweeps.search import Run
from src.sweeps.supervisor import PATIENCE

POLL = 0.3  # seconds between two checks of a trial
SUPERVISED = (sys.executable, "-m", "src.sweeps.supervisor")


class Failed(UserError):
    """A run ended without a value of the metric; says why."""


Started = Callable[["subprocess.Popen[bytes]"], None]


def run(sweep: Sweep, run: Run, trial: optuna.Trial, options: Sequence[str], started: Started) -> float:
    """Return the metric's last value in a run, which resumes from its checkpoint if there is one.

    Args:
        sweep: The search.
        run: The run.
        trial: Told the values that are logged.
        options: Further options of the run's command.
        started: Called with the run's process.

    Raises:
        Failed: If there is no value.
        optuna.TrialPruned: If the trial is not among the best of its rung, and was stopped.
        KeyboardInterrupt: After Ctrl-C, once the run has written its checkpoint.
    """
    promising = True
    with (run.folder / "log.txt").open("ab") as log:
        # Its own session, so that Ctrl-C reaches it once, from this process, and not also from the terminal.
        process = subprocess.Popen(
            [*BEHIND_USER_SIGNALS, *SUPERVISED, str(os.getpid()), *command(sweep, run), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(sweep),
            start_new_session=True,
        )
    run.lock.add(process.pid)
    started(process)
    # a resumed run logs again what it has reported before
    reported = max(trial.study.trials[trial.number].intermediate_values, default=0)
    try:
        while promising and process.poll() is None:
            time.sleep(POLL)
            history = logged(run.folder, sweep.metric)
            promising = report(sweep, trial, history, reported)
            reported = max(reported, len(history))
    finally:
        stop(process)
    if not promising:
        raise optuna.TrialPruned
    return outcome(sweep, run.folder, process.returncode)


def report(sweep: Sweep, trial: optuna.Trial, history: list[float], reported: int) -> bool:
    """Tell a trial the values from number `reported` on; return False once it should be stopped."""
    for count, value in enumerate(history[reported:], start=reported + 1):
        trial.report(value, step=count)
        if sweep.rungs is not None and trial.should_prune():
            return False
    return True


def command(sweep: Sweep, run: Run) -> list[str]:
    """The file's command with the trial's values and, as its last word, the trial's own run folder."""
    resumed = checkpoint_exists(run.folder / "checkpoints" / "last.ckpt")
    own = [f"--trainer.default_root_dir={run.folder}", *(["--ckpt_path=last"] if resumed else [])]
    return [*sweep.command(run.values), *own]


def environment(sweep: Sweep) -> dict[str, str]:
    """This process's environment, with the sweep as wandb's group, without variables of a surrounding agent."""
    kept = {name: value for name, value in os.environ.items() if name not in ("WANDB_SWEEP_ID", "WANDB_RUN_ID")}
    return for_children({"WANDB_RUN_GROUP": sweep.name, **kept})


def logged(folder: Path, metric: str) -> list[float]:
    """The values of a metric in a run folder's metrics.csv, in the order of their steps; the latest of each step."""
    return [value for _, value in read_curves(folder / "metrics.csv").get(metric, [])]


def outcome(sweep: Sweep, folder: Path, code: int) -> float:
    """Return the last value of the metric in a run folder, as wandb takes it.

    Raises:
        Failed: If there is none, or the run ended with another exit code than 0.
    """
    if code != 0:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        raise Failed(f"exit code {code}: {last}")
    values = logged(folder, sweep.metric)
    if not values:
        path = folder / "metrics.csv"
        raise Failed(f"no {sweep.metric} in {path}: {','.join(read_columns(path)) or 'no such file'}")
    if not math.isfinite(values[-1]):
        raise Failed(f"{sweep.metric} is {values[-1]} at the end")
    return values[-1]


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a run as Ctrl-C does, so that a checkpoint is written; by force where that takes too long."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
