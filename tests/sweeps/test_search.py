"""Which trials a sweep runs: each point of a grid once, the same draws again, nothing of another sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.sweeps.search import Search
from tests.sweeps.sweep_files import sweep

LR = {"lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}, "head": {"values": ["a", None]}}


def values(search: Search, limit: int | None) -> list[dict[str, Any]]:
    """Runs trials whose loss is their learning rate; returns what they drew."""
    found = []
    while (work := search.next(limit)) is not None:
        found.append(work.values)
        search.conclude(work, work.values.get("lr", 0.0))
        work.held.close()
    return found


def test_a_grid_goes_through_every_point_once(tmp_path: Path) -> None:
    parameters = {"a": {"values": [1, None]}, "b": {"min": 3, "max": 5}, "c": {"value": "x"}}
    found = values(Search(sweep(tmp_path, parameters), tmp_path / "out"), None)
    assert sorted(map(repr, found)) == sorted(repr({"a": a, "b": b, "c": "x"}) for a in (1, None) for b in (3, 4, 5))


def test_a_grid_of_constants_is_one_trial(tmp_path: Path) -> None:
    assert values(Search(sweep(tmp_path, {"a": {"value": 1}}), tmp_path / "out"), None) == [{"a": 1}]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_an_interrupted_search_draws_what_an_undisturbed_one_does(tmp_path: Path, method: str) -> None:
    searched = sweep(tmp_path, LR, method=method)
    whole = values(Search(searched, tmp_path / "whole"), 12)
    assert len(whole) == 12
    assert len({one["lr"] for one in whole}) == 12
    assert all(1e-4 <= one["lr"] <= 1e-2 for one in whole)
    first = values(Search(searched, tmp_path / "parts"), 5)
    left = Search(searched, tmp_path / "parts").next(12)
    assert left is not None
    left.held.close()  # as if its process had been killed before it could tell
    assert [*first, *values(Search(searched, tmp_path / "parts"), 12)] == whole


@pytest.mark.slow
def test_bayes_learns_where_the_loss_is_low(tmp_path: Path) -> None:
    found = values(Search(sweep(tmp_path, LR, method="bayes"), tmp_path / "out"), 30)
    assert sum(one["lr"] < 1e-3 for one in found[15:]) >= 12  # half of them by chance


def test_a_running_trial_is_nobody_elses(tmp_path: Path) -> None:
    searched = sweep(tmp_path, LR, method="random")
    mine = Search(searched, tmp_path / "out")
    first = mine.next(2)
    second = Search(searched, tmp_path / "out").next(2)
    assert first is not None and second is not None
    assert (first.trial.number, second.trial.number) == (0, 1)
    assert mine.next(2) is None and mine.elsewhere()


def test_trials_of_another_sweep_are_refused(tmp_path: Path) -> None:
    Search(sweep(tmp_path, LR, method="random"), tmp_path / "out")
    Search(sweep(tmp_path, LR, method="random", run_cap=9), tmp_path / "out")  # more of the same
    with pytest.raises(ValueError, match="holds trials of another state"):
        Search(sweep(tmp_path, {"lr": {"min": 0.1, "max": 0.2}}, method="random"), tmp_path / "out")


def test_rungs_stop_what_is_not_among_the_best(tmp_path: Path) -> None:
    search = Search(
        sweep(tmp_path, LR, method="random", early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2}),
        tmp_path / "out",
    )
    good, bad, better = (search.next(3) for _ in range(3))
    assert good is not None and bad is not None and better is not None
    assert search.promising(good, [9.0]) and search.promising(good, [9.0, 5.0, 5.0])
    assert search.promising(bad, [9.0])  # no rung yet
    assert not search.promising(bad, [9.0, 6.0])
    assert search.promising(better, [9.0, 4.0, 9.0])  # no rung between the second and the fourth value
