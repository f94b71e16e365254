"""The trials of a sweep in an SQLite file: which comes next, and whether a running one is worth going on."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.core.errors import UserError
from src.core.process_lock import Held, Lock, locked
from src.sweeps.definition import Sweep

try:
    import optuna
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise UserError("a sweep without a server needs Optuna: pip install 'glare-lightning[sweeps]'") from error


@dataclass
class Work:
    """A trial that this process runs, under a lock that tells the others so."""

    trial: optuna.Trial
    values: dict[str, Any]
    folder: Path
    lock: Lock
    held: ExitStack = field(repr=False)


class Search:
    """A sweep's trials; several processes may have the same one open.

    Trial n is drawn with seed n, so that a sweep of one process repeats, whatever interrupted it.

    Args:
        sweep: what is searched.
        folder: where `trials.db` and the trials' run folders lie.

    Raises:
        UserError: if the folder holds trials of another sweep.
    """

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.sweep = sweep
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._turns = FileLock(folder / ".turns")  # one process at a time looks for its next trial
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._turns:
            self.study = optuna.create_study(
                storage=f"sqlite:///{folder / 'trials.db'}",
                study_name=sweep.name,
                direction=sweep.goal,
                pruner=_pruner(sweep),
                load_if_exists=True,
            )
            known = self.study.user_attrs.get("fingerprint")
            if known is None:
                self._begin()
            elif known != sweep.fingerprint:
                raise UserError(
                    f"{folder} holds trials of another state of {sweep.file}: search, metric or command have changed;"
                    " give another --out, or delete that folder"
                )

    def _begin(self) -> None:
        if self.sweep.method == "grid":
            axes = {name: grid for name, found in self.sweep.parameters.items() if (grid := found.grid())}
            for point in product(*axes.values()):
                self.study.enqueue_trial(dict(zip(axes, point, strict=True)))
        self.study.set_user_attr("fingerprint", self.sweep.fingerprint)

    def next(self, limit: int | None) -> Work | None:
        """A trial to run: first one that a killed process left, then a new one.

        Args:
            limit: how many trials the sweep has in all; a grid ends by itself.
        """
        with self._turns:
            trials = self.study.get_trials(deepcopy=False)
            for left in trials:
                if left.state == TrialState.RUNNING:
                    try:
                        return self._work(left.number, left._trial_id)
                    except Held:
                        continue
            begun = sum(trial.state != TrialState.WAITING for trial in trials)
            waiting = len(trials) > begun
            if (limit is not None and begun >= limit) or (self.sweep.method == "grid" and not waiting):
                return None
            asked = self.study.ask()
            return self._work(asked.number, asked._trial_id)

    def _work(self, number: int, identity: int) -> Work:
        folder = self.folder / f"{number:04d}"
        held = ExitStack()
        lock = held.enter_context(locked(folder / "lock"))
        self.study.sampler = _sampler(self.sweep, number)
        trial = optuna.Trial(self.study, identity)  # of one that was left, what it has drawn already stays
        values = {name: found.draw(trial, name) for name, found in self.sweep.parameters.items()}
        trial.set_user_attr("values", values)
        return Work(trial, values, folder, lock, held)

    def left(self, limit: int | None) -> int:
        """Number of trials that have not ended; running ones count.

        Args:
            limit: Trials in all; None for a grid.
        """
        trials = self.study.get_trials(deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in trials)
        return max(0, (len(trials) if limit is None else limit) - ended)

    def elsewhere(self) -> bool:
        """Return whether other processes run trials."""
        return any(trial.state == TrialState.RUNNING for trial in self.study.get_trials(deepcopy=False))

    def promising(self, work: Work, history: list[float]) -> bool:
        """Tells the values that the trial has logged so far; False where it should be stopped."""
        known = len(self.study._storage.get_trial(work.trial._trial_id).intermediate_values)
        for count, value in enumerate(history[known:], start=known + 1):
            work.trial.report(value, step=count)
            if self.sweep.rungs is not None and work.trial.should_prune():
                return False
        return True

    def conclude(self, work: Work, value: float | None, note: str = "", seconds: float = 0.0) -> None:
        """Ends a trial: with its value, stopped early (neither value nor note), or failed, with a note why."""
        work.trial.set_user_attr("seconds", work.trial.user_attrs.get("seconds", 0.0) + seconds)
        if note:
            work.trial.set_user_attr("note", note)
            self.study.tell(work.trial, state=TrialState.FAIL)
        elif value is None:
            self.study.tell(work.trial, state=TrialState.PRUNED)
        else:
            self.study.tell(work.trial, value)

    def trials(self) -> list[FrozenTrial]:
        """All trials that have begun, in the order of their numbers."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING and "values" in trial.user_attrs]


def _sampler(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    if sweep.method == "bayes":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed)  # a grid's points are fixed: nothing is left to it


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    """wandb's hyperband has one ladder of rungs for all trials: Optuna calls that successive halving."""
    if sweep.rungs is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(sweep.rungs.first, sweep.rungs.factor)
