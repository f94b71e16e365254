"""A sweep stopped at any change of Optuna's storage, by Ctrl-C or a kill: each point of the grid is run once."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage

from src.sweeps import process
from src.sweeps.definition import Sweep
from src.sweeps.local import LocalSweep
from tests.sweeps.sweep_files import sweep

CHANGES = (
    "create_new_study",
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_study_user_attr",
)


class Killed(BaseException):
    """The end of a process: nobody handles it."""


class Stops:
    """Counts the changes of the storage, and stops at one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen, self.at, self.after, self.error = 0, 0, False, KeyboardInterrupt
        for name in CHANGES:
            patch.setattr(RDBStorage, name, self.counted(getattr(RDBStorage, name)))

    def counted(self, change: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            stops = self.seen == self.at
            if stops and not self.after:
                raise self.error
            result = change(*arguments, **options)
            if stops:
                raise self.error
            return result

        return call

    def attempt(self, searched: Sweep, folder: Path) -> bool:
        """Run the sweep; returns whether it came to its end."""
        self.seen, begun = 0, None
        try:
            begun = LocalSweep(searched, folder, None)
            begun.run()
            return True
        except (KeyboardInterrupt, Killed, UnboundLocalError):  # the last one is Optuna's, of Ctrl-C as a trial ends
            return False
        finally:
            if begun is not None:  # as the system does when a process ends
                begun.search.release()
                begun.search.turn.release(force=True)


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stops]:
    monkeypatch.setattr(process, "run", lambda sweep, run, *_: run.values["lr"])
    yield Stops(monkeypatch)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return [{key: told for key, told in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed])
def test_no_point_is_lost_or_repeated(error: Any, after: bool, stops: Stops, tmp_path: Path) -> None:
    searched = sweep(tmp_path, {"lr": {"values": [0.1, 0.2]}})
    assert stops.attempt(searched, tmp_path / "calm")
    changes, expected = stops.seen, table(tmp_path / "calm")
    assert [(row["trial"], row["lr"]) for row in expected] == [("0", "0.1"), ("1", "0.2")]
    stops.after, stops.error = after, error
    for at in range(1, changes + 1):
        folder, stops.at = tmp_path / str(at), at
        stopped = not stops.attempt(searched, folder)
        stops.at = 0
        assert stops.attempt(searched, folder)
        assert table(folder) == expected, f"change {at} of {changes}"
        assert stopped, f"change {at} of {changes}"
