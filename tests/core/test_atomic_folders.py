"""A folder is exchanged whole, and no moment of the exchange loses the old one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.core.atomic_folders import exchanging, recover


class Killed(BaseException):
    """The process ends here: nothing that would run afterwards does."""


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def make(folder: Path, name: str = "old") -> Path:
    (folder / "cells").mkdir(parents=True)
    (folder / name).write_text(name)
    (folder / "cells" / name).write_text(name)
    return folder


def fill(folder: Path) -> None:
    make(folder / "below", "new")


def test_the_old_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = make(tmp_path / "x")
    make(tmp_path / "y")
    with exchanging(target) as new:
        fill(new)
        assert files(target) == {"old": "old", "cells/old": "old"}
    assert files(target) == {"below/new": "new", "below/cells/new": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    with exchanging(tmp_path / "results" / "x") as new:
        fill(new)
    assert files(tmp_path) == {"results/x/below/new": "new", "results/x/below/cells/new": "new"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_block_that_raises_changes_nothing(error: type[BaseException], tmp_path: Path) -> None:
    target = make(tmp_path / "x")
    with pytest.raises(error), exchanging(target) as new:
        fill(new)
        raise error
    assert files(tmp_path) == {"x/old": "old", "x/cells/old": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_the_old_folder_or_the_new_one_is_there_afterwards(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each of the two renames; `recover`, which a killed process would not run, is left out."""
    target = make(tmp_path / "x")
    calls = []

    def killed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            calls.append(len(calls))
            if len(calls) - 1 == moment // 2 and moment % 2 == 0:
                raise Killed
            result = call(*arguments)
            if len(calls) - 1 == moment // 2:
                raise Killed
            return result

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed(os.replace))
        patch.setattr("src.core.atomic_folders.recover", lambda _: None)
        with pytest.raises(Killed), exchanging(target) as new:
            fill(new)
    assert "old" in files(tmp_path).values(), "the old folder is lost"
    recover(target)
    assert set(files(target).values()) == ({"new"} if moment == 3 else {"old"})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with exchanging(target) as new:
        fill(new)
    assert set(files(target).values()) == {"new"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ValueError, match="found a file"), exchanging(tmp_path / "x"):
        pass
    assert files(tmp_path) == {"x": "mine"}


def test_behind_a_link_nothing_is_removed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x").symlink_to(tmp_path / "elsewhere")
    with exchanging(tmp_path / "results" / "x") as new:
        fill(new)
    assert files(tmp_path / "elsewhere") == {"old": "old", "cells/old": "old"}
    assert set(files(tmp_path / "results" / "x").values()) == {"new"}
