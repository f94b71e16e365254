"""Whose mistake an error is, and what is said of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from datamodules.reading.errors import ImageError
from src.config.suggestions import nearest
from src.core.errors import CommandLineError, one_message, user_message


def raised(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as info:
        action()
    return info.value


def ours() -> None:
    """Raised within src, as by a wrong argument."""
    from src.callbacks.checkpoint import RunCheckpoint

    RunCheckpoint(every_n_steps=0)


class Broken(Dataset[int]):
    """Raises in a worker: our error, or another's."""

    def __init__(self, from_ours: bool) -> None:
        self.from_ours = from_ours

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        if self.from_ours:
            ours()
        return int("no number")


def through_a_worker(from_ours: bool) -> Exception:
    return raised(lambda: next(iter(DataLoader(Broken(from_ours), num_workers=1))))


def test_our_error_is_the_users() -> None:
    assert user_message(raised(ours)) == "checkpoint.every_n_steps must be at least 1, got 0"


def test_the_same_through_a_worker() -> None:
    assert user_message(through_a_worker(True)) == "checkpoint.every_n_steps must be at least 1, got 0"


def test_an_error_of_other_code_is_unexpected() -> None:
    assert user_message(raised(lambda: int("no number"))) is None
    assert user_message(through_a_worker(False)) is None


def test_lightnings_refusals_are_the_users() -> None:
    assert user_message(MisconfigurationException("no such precision")) == "no such precision"


def test_a_class_of_ours_is_the_users_whoever_raised_it_again() -> None:
    assert user_message(ImageError("a.png is cut off")) == "a.png is cut off"


def test_ours_is_the_users_also_where_another_library_wraps_it() -> None:
    def wrapped(action: Callable[[], object]) -> object:
        try:
            return action()
        except ValueError as error:
            raise RuntimeError("call of a link failed") from error

    assert user_message(raised(lambda: wrapped(ours))) == "checkpoint.every_n_steps must be at least 1, got 0"
    assert user_message(raised(lambda: wrapped(lambda: int("no number")))) is None


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandLineError("no key 'x'"), 2, "error: no key 'x'\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("stop"), 1, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_exit_codes(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with one_message() as outcome:
        raise error
    assert outcome.code == code
    assert capsys.readouterr().err == said


def test_the_unexpected_has_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with one_message() as outcome:
        raise RuntimeError("ours to mend")
    assert outcome.code == 1
    assert "Traceback" in capsys.readouterr().err


def test_nearest_lists_few_words_and_not_many() -> None:
    assert nearest("wieght", ["weight", "rank"]) == ", did you mean 'weight'?"
    assert nearest("xyz", ["weight", "rank"]) == " (valid: rank, weight)"
    assert nearest("xyz", [f"word{i}" for i in range(50)]) == ""


@pytest.mark.parametrize(
    "fault", ["database or disk is full", "attempt to write a readonly database", "unable to open database file"]
)
def test_a_database_that_cannot_be_written_is_no_bug(fault: str) -> None:
    def search() -> None:
        try:
            raise sqlite3.OperationalError(fault)
        except sqlite3.OperationalError as error:
            raise RuntimeError("the storage failed") from error

    assert "trials.db cannot be written" in (user_message(raised(search)) or "")
    assert user_message(sqlite3.OperationalError("no such table: trials")) is None
