"""One trial as a process: a fit in a run folder of its own, watched through its metrics.csv."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from src.core.checkpoint_paths import checkpoint_exists
from src.core.import_path import for_children
from src.studies.results.curves import read_curves
from src.studies.run.execution import BEHIND_USER_SIGNALS
from src.sweeps.definition import Sweep
from src.sweeps.search import Search, Work
from src.sweeps.supervisor import PATIENCE

POLL = 0.3  # seconds between two looks at a trial
SUPERVISED = (sys.executable, "-m", "src.sweeps.supervisor")


Started = Callable[["subprocess.Popen[bytes]"], None]


def run(sweep: Sweep, search: Search, work: Work, options: Sequence[str], started: Started) -> None:
    """Runs a trial to its end, from its checkpoint if a killed process left one, and tells the search how it went.

    Args:
        sweep: what is searched.
        search: its trials.
        work: the trial.
        options: further options of its command.
        started: called with its process.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the trial has written its checkpoint; the next process resumes it.
    """
    began = time.monotonic()
    promising = True
    with (work.folder / "log.txt").open("ab") as log:
        # Its own session: Ctrl-C reaches it once, from us, and not a second time from the terminal.
        process = subprocess.Popen(
            [*BEHIND_USER_SIGNALS, *SUPERVISED, str(os.getpid()), *command(sweep, work), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(sweep),
            start_new_session=True,
        )
    work.lock.add(process.pid)
    started(process)
    try:
        while promising and process.poll() is None:
            time.sleep(POLL)
            promising = search.promising(work, logged(work.folder, sweep.metric))
    finally:
        stop(process)
    seconds = time.monotonic() - began
    if not promising:
        search.conclude(work, None, seconds=seconds)
        return
    value, note = outcome(sweep, work.folder, process.returncode)
    search.conclude(work, value, note, seconds)


def command(sweep: Sweep, work: Work) -> list[str]:
    """The file's command with the trial's values and, as its last word, the trial's own run folder."""
    resumed = checkpoint_exists(work.folder / "checkpoints" / "last.ckpt")
    own = [f"--trainer.default_root_dir={work.folder}", *(["--ckpt_path=last"] if resumed else [])]
    return [*sweep.command(work.values), *own]


def environment(sweep: Sweep) -> dict[str, str]:
    """This process's, and the sweep as the group of its wandb runs; nothing of an agent that may run around us."""
    kept = {name: value for name, value in os.environ.items() if name not in ("WANDB_SWEEP_ID", "WANDB_RUN_ID")}
    return for_children({"WANDB_RUN_GROUP": sweep.name, **kept})


def logged(folder: Path, metric: str) -> list[float]:
    """The values of a metric in a run folder's metrics.csv, in the order of their steps; the latest of each step."""
    return [value for _, value in read_curves(folder / "metrics.csv").get(metric, [])]


def outcome(sweep: Sweep, folder: Path, code: int) -> tuple[float | None, str]:
    """The trial's last value of the metric, as wandb takes it, or why there is none."""
    if code != 0:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        return None, f"exit code {code}: {last}"
    values = logged(folder, sweep.metric)
    if not values:
        path = folder / "metrics.csv"
        columns = path.read_text(encoding="utf-8").partition("\n")[0].strip() if path.is_file() else "no such file"
        return None, f"no {sweep.metric} in {path}: {columns}"
    return (values[-1], "") if math.isfinite(values[-1]) else (None, f"{sweep.metric} is {values[-1]} at the end")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a trial as Ctrl-C does, so that a checkpoint is written; by force where that takes too long."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
