"""A cell's record of the code that computed it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from src.studies.run import machine


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit, of a file of code and a published result; `machine` asks git about it."""
    for name in ("code.py", "results/table.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "HOME", tmp_path.resolve())
    return tmp_path


def test_a_clean_tree_is_its_commit(repository: Path) -> None:
    full = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    assert machine.commit() == full.stdout[:12]


def test_changed_code_is_dirty_and_a_changed_result_is_not(repository: Path) -> None:
    (repository / "results" / "table.md").write_text("b")
    (repository / "untracked.txt").write_text("b")
    assert "dirty" not in machine.commit()
    (repository / "code.py").write_text("b")
    assert machine.commit().endswith("-dirty")


def test_without_git_it_is_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "HOME", tmp_path.resolve())
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.commit() == machine.release()
    assert re.fullmatch(r"version \d+\.\d+\.\d+", machine.release())


def test_the_repository_around_an_installed_package_is_not_its_own(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = repository / "venv" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(machine, "HOME", installed.resolve())
    assert machine.commit() == machine.release()
