"""A sweep on this machine: trials one after another; several processes with the same folder share the work."""

import time
from collections.abc import Sequence
from pathlib import Path

from src.core.atomic_files import write_text
from src.sweeps import process
from src.sweeps.definition import Sweep
from src.sweeps.parallel import parallel_coordinates
from src.sweeps.results import as_csv, markdown, rows, text
from src.sweeps.search import Search

RETRY = 3.0  # seconds between two looks at trials that other processes run


def run(
    sweep: Sweep,
    folder: Path,
    limit: int | None,
    own: int | None = None,
    options: Sequence[str] = (),
    started: process.Started = lambda trial: None,
) -> int:
    """Runs what is missing, and writes the results after each trial.

    Args:
        sweep: what is searched.
        folder: where the trials lie; those that are there count.
        limit: trials in all, of all processes; a grid ends by itself.
        own: trials that this process runs at most; None for all that are left.
        options: further options of each trial's command.
        started: called with the process of each trial.

    Returns:
        How many trials failed.

    Raises:
        UserError: if the folder holds another sweep, or Optuna is not installed.
        KeyboardInterrupt: after Ctrl-C, when the running trial has written its checkpoint.
    """
    search = Search(sweep, folder)
    ran = 0
    while True:
        work = search.next(limit)
        if work is not None:
            drawn = ", ".join(f"{name} = {text(value)}" for name, value in work.values.items())
            print(f"trial {work.trial.number}: {drawn}", flush=True)
            try:
                process.run(sweep, search, work, options, started)
            except KeyboardInterrupt:
                print("interrupted; run the same command again to resume this trial")
                raise
            finally:
                work.held.close()
        failed = write_results(sweep, search, folder)
        ran += work is not None
        if ran == own:
            return failed
        if work is None and (own is not None or not search.elsewhere()):
            return failed
        if work is None:
            time.sleep(RETRY)


def write_results(sweep: Sweep, search: Search, folder: Path) -> int:
    """Writes table.md, table.csv and, from two trials on, parallel.svg; returns how many trials failed."""
    found = rows(sweep, search)
    results = {
        "table.md": markdown(sweep, found),
        "table.csv": as_csv(sweep, found),
        "parallel.svg": parallel_coordinates(sweep, found),
    }
    for name, content in results.items():
        if content is not None:
            write_text(folder / name, content)
    return sum(row.state == "failed" for row in found)
