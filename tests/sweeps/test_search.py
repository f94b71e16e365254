"""Which trials a sweep runs: each point of a grid once, the same draws again, nothing of another sweep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from src.core.process_lock import locked
from src.sweeps.process import report
from src.sweeps.results import rows
from src.sweeps.search import Run, Search
from tests.sweeps.sweep_files import sweep

LR = {"lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}, "head": {"values": ["a", None]}}


def values(search: Search) -> list[dict[str, Any]]:
    """Runs trials whose loss is their learning rate by Optuna's loop; returns what they drew."""
    found: list[dict[str, Any]] = []

    def loss(trial: optuna.Trial) -> float:
        with search.claimed(trial) as run:
            found.append(run.values)
            return float(run.values.get("lr", 0.0))

    def ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if not search.take_turn():
            study.stop()

    if search.take_turn():
        search.study.optimize(loss, callbacks=[ended])
    return found


@contextmanager
def running(search: Search) -> Iterator[tuple[optuna.Trial, Run]]:
    """A trial in the middle of its run."""
    assert search.take_turn()
    trial = search.study.ask()
    with search.claimed(trial) as run:
        yield trial, run


def test_a_grid_goes_through_every_point_once(tmp_path: Path) -> None:
    parameters = {"a": {"values": [1, None]}, "b": {"min": 3, "max": 5}, "c": {"value": "x"}}
    found = values(Search(sweep(tmp_path, parameters), tmp_path / "out", None))
    assert sorted(map(repr, found)) == sorted(repr({"a": a, "b": b, "c": "x"}) for a in (1, None) for b in (3, 4, 5))


def test_a_grid_of_constants_is_one_trial(tmp_path: Path) -> None:
    assert values(Search(sweep(tmp_path, {"a": {"value": 1}}), tmp_path / "out", None)) == [{"a": 1}]


def test_a_limit_ends_a_grid_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    searched = sweep(tmp_path, {"a": {"values": [1, 2, 3]}})
    assert values(Search(searched, tmp_path / "out", 2)) == [{"a": 1}, {"a": 2}]
    assert values(Search(searched, tmp_path / "out", 2)) == []
    assert values(Search(searched, tmp_path / "out", 5)) == [{"a": 3}]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_an_interrupted_search_draws_what_an_undisturbed_one_does(tmp_path: Path, method: str) -> None:
    searched = sweep(tmp_path, LR, method=method)
    whole = values(Search(searched, tmp_path / "whole", 12))
    assert len(whole) == 12
    assert len({one["lr"] for one in whole}) == 12
    assert all(1e-4 <= one["lr"] <= 1e-2 for one in whole)
    first = values(Search(searched, tmp_path / "killed", 5))
    killed = Search(searched, tmp_path / "killed", 12)
    with running(killed) as (_, run):
        drawn = run.values
    killed.release()  # as the system does when a process ends; Optuna was not told how the trial ended
    again = values(Search(searched, tmp_path / "killed", 12))
    assert again[0] == drawn
    assert [*first, *again] == whole


def test_an_interrupted_run_is_resumed_with_what_it_has_reported(tmp_path: Path) -> None:
    search = Search(sweep(tmp_path, LR, method="random"), tmp_path / "out", 1)

    def interrupted(trial: optuna.Trial) -> float:
        with search.claimed(trial):
            trial.report(3.0, step=1)
            raise KeyboardInterrupt

    assert search.take_turn()
    with pytest.raises(KeyboardInterrupt):
        search.study.optimize(interrupted)
    search.release()
    assert [row.state for row in rows(search.sweep, search)] == ["interrupted"]
    again = Search(search.sweep, tmp_path / "out", 1)
    with running(again) as (trial, run):
        assert run.number == 0
        assert run.values == search.trials()[0].user_attrs["values"]
        assert again.study.trials[trial.number].intermediate_values == {1: 3.0}
        assert [(row.number, row.state, row.value) for row in rows(again.sweep, again)] == [(0, "running", 3.0)]


def test_a_trial_whose_process_died_before_it_had_a_run_is_not_lost(tmp_path: Path) -> None:
    searched = sweep(tmp_path, {"a": {"values": [1, 2]}})
    dying = Search(searched, tmp_path / "out", None)
    assert dying.take_turn()
    dying.study.ask()
    dying.turn.release()  # as the system does when a process ends
    assert values(Search(searched, tmp_path / "out", None)) == [{"a": 2}, {"a": 1}]


@pytest.mark.slow
def test_bayes_learns_where_the_loss_is_low(tmp_path: Path) -> None:
    found = values(Search(sweep(tmp_path, LR, method="bayes"), tmp_path / "out", 30))
    assert sum(one["lr"] < 1e-3 for one in found[15:]) >= 12  # half of them by chance


def test_a_running_trial_is_nobody_elses(tmp_path: Path) -> None:
    searched = sweep(tmp_path, LR, method="random")
    mine, other, third = (Search(searched, tmp_path / "out", 2) for _ in range(3))
    with running(mine) as (_, first), running(other) as (_, second):
        assert (first.number, second.number) == (0, 1)
        assert not third.take_turn() and third.elsewhere()


def test_a_run_that_has_just_ended_is_not_taken_over(tmp_path: Path) -> None:
    searched = sweep(tmp_path, LR, method="random")
    mine, other = (Search(searched, tmp_path / "out", 2) for _ in range(2))
    with running(mine) as (trial, _):
        pass
    assert other.take_turn()  # between a run's end and Optuna's word of it
    other.turn.release()
    mine.study.tell(trial, 1.0)
    mine.release()
    assert [one.state.name for one in other.trials().values()] == ["COMPLETE"]


def test_the_lock_of_a_process_that_died_as_its_run_ended_is_removed(tmp_path: Path) -> None:
    searched, lock = sweep(tmp_path, {"a": {"values": [1, 2]}}), tmp_path / "out" / "0000" / "lock"
    assert values(Search(searched, tmp_path / "out", 1)) == [{"a": 1}]
    child = os.fork()
    if child == 0:
        held = locked(lock)
        held.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    assert lock.exists()
    assert values(Search(searched, tmp_path / "out", None)) == [{"a": 2}]
    assert not list((tmp_path / "out").glob("*/lock"))


def test_trials_of_another_sweep_are_refused(tmp_path: Path) -> None:
    Search(sweep(tmp_path, LR, method="random"), tmp_path / "out", None)
    Search(sweep(tmp_path, LR, method="random", run_cap=9), tmp_path / "out", None)  # more of the same
    with pytest.raises(ValueError, match="holds trials of an earlier version"):
        Search(sweep(tmp_path, {"lr": {"min": 0.1, "max": 0.2}}, method="random"), tmp_path / "out", None)


def test_rungs_stop_what_is_not_among_the_best(tmp_path: Path) -> None:
    halving = {"type": "hyperband", "min_iter": 2, "eta": 2}
    searched = sweep(tmp_path, LR, method="random", early_terminate=halving)
    search = Search(searched, tmp_path / "out", 3)
    with ExitStack() as held:
        searches = [search, *(Search(searched, tmp_path / "out", 3) for _ in range(2))]
        good, bad, better = (held.enter_context(running(each))[0] for each in searches)
        assert report(searched, good, [9.0], 0) and report(searched, good, [9.0, 5.0, 5.0], 1)
        assert report(searched, bad, [9.0], 0)  # no rung yet
        assert not report(searched, bad, [9.0, 6.0], 1)
        assert report(searched, better, [9.0, 4.0, 9.0], 0)  # no rung between the second and the fourth value
