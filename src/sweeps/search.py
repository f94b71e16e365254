"""A sweep's trials in Optuna's storage, an SQLite file that several processes share.

Optuna never resumes a trial: one that was cut off fails, and another with the same parameters continues its *run*, the
folder with its checkpoint. Runs are numbered from 0: those of a grid by its points, others as they are begun.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.core.errors import UserError
from src.core.process_lock import Held, Lock, locked
from src.sweeps.definition import Sweep
from src.sweeps.inputs import check_inputs, inputs

try:
    import optuna
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise UserError("a sweep without a server needs Optuna: pip install 'glare-lightning[sweeps]'") from error


@dataclass(frozen=True)
class Run:
    """A run that this process works on, under a lock that tells the others so."""

    number: int
    values: dict[str, Any]
    folder: Path
    lock: Lock


class Search:
    """A sweep's trials; several processes may have the same one open.

    Run n is drawn with random seed n, so that a sweep of one process repeats, whatever interrupted it.

    Args:
        sweep: The search space and method.
        folder: Folder of `trials.db` and of the run folders.
        limit: Runs in all, of all processes; None for a grid, which ends by itself.

    Raises:
        UserError: If the folder holds trials of another sweep, or of other configurations or data.
    """

    def __init__(self, sweep: Sweep, folder: Path, limit: int | None) -> None:
        self.sweep = sweep
        self.folder = folder
        self.limit = limit
        folder.mkdir(parents=True, exist_ok=True)
        self.turn = FileLock(folder / ".turns")  # one process at a time asks Optuna for its next trial
        self._held = ExitStack()  # the lock of this process's run, until Optuna knows how its trial has ended
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are reported in the table
        found = inputs(sweep)
        with self.turn:
            self.study = optuna.create_study(
                storage=f"sqlite:///{folder / 'trials.db'}",
                study_name=sweep.name,
                direction=sweep.goal,
                pruner=_pruner(sweep),
                load_if_exists=True,
            )
            known = self.study.user_attrs.get("fingerprint")
            if known is None:
                self.study.set_user_attr("fingerprint", sweep.fingerprint)
            elif known != sweep.fingerprint:
                raise UserError(
                    f"{folder} holds trials of an earlier version of {sweep.file}: its search, metric or command has "
                    "changed; give another --out, or delete that folder"
                )
            if "inputs" in self.study.user_attrs:
                check_inputs(found, self.study.user_attrs["inputs"], sweep, folder)
            else:
                self.study.set_user_attr("inputs", found)
            if sweep.method == "grid" and "filled" not in self.study.user_attrs:
                self._fill_grid()

    def _fill_grid(self) -> None:
        """Enqueue the points of a grid: all of them, or those that are missing where a process was killed here."""
        axes = {name: grid for name, found in self.sweep.parameters.items() if (grid := found.grid())}
        for number, point in islice(enumerate(product(*axes.values())), len(self.study.trials), None):
            self.study.enqueue_trial(dict(zip(axes, point, strict=True)), user_attrs={"run": number})
        self.study.set_user_attr("filled", True)

    def take_turn(self) -> bool:
        """Make sure that Optuna's next trial is a run of this sweep; `claimed` ends the turn.

        Returns:
            False, and no turn, if there is no run to begin or to resume.
        """
        self.release()
        self.turn.acquire()
        self._take_over()
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        begun = len(self.trials())
        more = (self.limit is None or begun < self.limit) and (self.sweep.method != "grid" or bool(waiting))
        if not more and not any(map(_claimed, waiting)):
            self.turn.release()
            return False
        self.study.sampler = _sampler(self.sweep, begun)
        return True

    @contextmanager
    def claimed(self, trial: optuna.Trial) -> Iterator[Run]:
        """Draw the values of the trial that Optuna made in this process's turn, and hold its run until `release`."""
        try:
            number = trial.user_attrs.get("run", len(self.trials()))
            folder = self.folder / f"{number:04d}"
            lock = self._held.enter_context(locked(folder / "lock"))
            values = {name: found.draw(trial, name) for name, found in self.sweep.parameters.items()}
            trial.set_user_attr("run", number)
            trial.set_user_attr("values", values)
        finally:
            self.turn.release()
        yield Run(number, values, folder, lock)

    def release(self) -> None:
        """Give up the run of this process, whose trial has ended."""
        self._held.close()

    def _take_over(self) -> None:
        """Enqueue again, with what they have reported, trials that were cut off and those whose process is gone."""
        resumed = {trial.user_attrs.get("resumes") for trial in self.study.trials}
        unclaimed = [trial for trial in self.study.trials if not _claimed(trial)]  # cut off before they had a run
        for trial in (*unclaimed, *self.trials().values()):
            if trial.number in resumed or not (trial.state == TrialState.RUNNING or cut_off(trial)):
                continue
            lock: AbstractContextManager[Any] = nullcontext()
            if _claimed(trial):
                lock = locked(self.folder / f"{_run(trial):04d}" / "lock")
            with suppress(Held), lock:
                now = self.study.trials[trial.number]  # it may have ended in the meantime
                if now.state == TrialState.RUNNING:
                    self.study.tell(now.number, state=TrialState.FAIL)
                    self._enqueue(now)
                elif cut_off(now):
                    self._enqueue(now)
        for number, trial in self.trials().items():
            lock_file = self.folder / f"{number:04d}" / "lock"
            if trial.state.is_finished() and lock_file.exists():  # killed between the end of a trial and its release
                with suppress(Held), locked(lock_file):
                    pass

    def _enqueue(self, trial: FrozenTrial) -> None:
        """Let another trial resume the run of one that was cut off; one without a run is drawn anew."""
        if _claimed(trial):
            parameters, distributions, told = trial.params, trial.distributions, trial.user_attrs
        else:
            parameters, distributions = {}, {}
            told = {"run": trial.user_attrs["run"]} if self.sweep.method == "grid" else {}
        again = optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=parameters,
            distributions=distributions,
            user_attrs={**told, "resumes": trial.number},
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
        )
        self.study.add_trial(again)

    def left(self) -> int:
        """Return the number of runs that have not ended, running ones included."""
        grids = [found.grid() for found in self.sweep.parameters.values()] if self.sweep.method == "grid" else []
        points = prod(len(grid) for grid in grids if grid is not None)
        total = min(number for number in (self.limit, points if grids else None) if number is not None)
        runs = self.trials().values()
        return max(0, total - sum(run.state.is_finished() and not cut_off(run) for run in runs))

    def elsewhere(self) -> bool:
        """Return whether other processes run trials."""
        return any(trial.state == TrialState.RUNNING for trial in self.trials().values())

    def trials(self) -> dict[int, FrozenTrial]:
        """The latest trial of each run that has begun, by the run's number."""
        return dict(sorted({_run(trial): trial for trial in self.study.trials if _claimed(trial)}.items()))


def cut_off(trial: FrozenTrial) -> bool:
    """Return whether a trial ended before its run did, by Ctrl-C or an error of the sweep: failed runs have a note."""
    return bool(trial.state == TrialState.FAIL) and "note" not in trial.user_attrs


def _claimed(trial: FrozenTrial) -> bool:
    """Return whether a trial has, or resumes, a run."""
    return "values" in trial.user_attrs


def _run(trial: FrozenTrial) -> int:
    """The number of a trial's run."""
    return int(trial.user_attrs.get("run", trial.number))  # trials of earlier versions are runs of their own


def _sampler(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    if sweep.method == "bayes":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed)  # a grid's points are fixed: nothing is left to it


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    """wandb's hyperband has one ladder of rungs for all trials: Optuna calls that successive halving."""
    if sweep.rungs is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(sweep.rungs.first, sweep.rungs.factor)
