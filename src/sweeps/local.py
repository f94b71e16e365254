"""Run a sweep locally with Optuna's loop; several processes with the same folder share the work."""

import time
from collections.abc import Sequence
from pathlib import Path

import optuna

from src.core.atomic_files import write_text
from src.sweeps import process
from src.sweeps.definition import Sweep
from src.sweeps.parallel import parallel_coordinates
from src.sweeps.results import as_csv, markdown, rows, text
from src.sweeps.search import Search

RETRY = 3.0  # seconds between two checks of other processes' runs


class LocalSweep:
    """A sweep and its folder.

    Args:
        sweep: The search.
        folder: Folder of its runs and results; existing runs are included.
        limit: Runs in all, of all processes; a grid ends by itself.
        own: Runs of this process at most; None for all that are left.
        options: Further options of each run's command.
        started: Called with the process of each run.

    Raises:
        UserError: If the folder holds another sweep.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        limit: int | None,
        own: int | None = None,
        options: Sequence[str] = (),
        started: process.Started = lambda trial: None,
    ) -> None:
        self.sweep = sweep
        self.folder = folder
        self.search = Search(sweep, folder, limit)
        self.own = own
        self.ran = 0
        self.options = options
        self.started = started

    def run(self) -> int:
        """Run the missing trials, and write the results after each one.

        Returns:
            The number of runs that failed.

        Raises:
            KeyboardInterrupt: After Ctrl-C, once the run has written its checkpoint.
        """
        while True:
            if self.search.take_turn():
                try:
                    self.search.study.optimize(self.value, catch=process.Failed, callbacks=[self.ended])
                finally:
                    self.search.release()
                if self.ran == self.own:
                    return self.write_results()
            elif self.own is None and self.search.elsewhere():
                time.sleep(RETRY)
            else:
                return self.write_results()

    def value(self, trial: optuna.Trial) -> float:
        """Return the metric's last value in a trial's run.

        Raises:
            process.Failed: If there is none.
            optuna.TrialPruned: If the run was stopped early.
        """
        with self.search.claimed(trial) as run:
            drawn = ", ".join(f"{name} = {text(value)}" for name, value in run.values.items())
            print(f"trial {run.number}: {drawn}", flush=True)
            before, began = trial.user_attrs.get("seconds", 0.0), time.monotonic()
            try:
                return process.run(self.sweep, run, trial, self.options, self.started)
            except process.Failed as error:
                trial.set_user_attr("note", str(error))
                raise
            except KeyboardInterrupt:
                print("interrupted; run the same command again to resume this trial")
                raise
            finally:
                trial.set_user_attr("seconds", before + time.monotonic() - began)

    def ended(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Write the results after a trial, and end Optuna's loop after the last one."""
        self.ran += 1
        self.write_results()
        if self.ran == self.own or not self.search.take_turn():
            study.stop()

    def write_results(self) -> int:
        """Write table.md, table.csv and, from two runs on, parallel.svg; return the number of runs that failed."""
        found = rows(self.sweep, self.search)
        results = {
            "table.md": markdown(self.sweep, found),
            "table.csv": as_csv(self.sweep, found),
            "parallel.svg": parallel_coordinates(self.sweep, found),
        }
        for name, content in results.items():
            if content is not None:
                write_text(self.folder / name, content)
        return sum(row.state == "failed" for row in found)


def run(sweep: Sweep, folder: Path, limit: int | None, options: Sequence[str] = ()) -> int:
    """Run a sweep in its folder; see `LocalSweep`."""
    return LocalSweep(sweep, folder, limit, options=options).run()
